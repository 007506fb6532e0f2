# SPDX-License-Identifier: Apache-2.0
defmodule EMLX do
  @moduledoc """
  Runs Nx programs natively.

  EMLX is a backend and a compiler for Nx:

      Nx.default_backend(EMLX.Backend)
      Nx.Defn.default_options(compiler: EMLX)

  `EMLX.Backend` computes eager operations, lazily and fused. As a compiler for
  `defn`, this module turns a whole function into one native program, control
  flow included, compiled once for each combination of argument types and shapes.

  A function can also be saved as a file with `export/4` and run with no Elixir
  on the machine, by the `emlx` command or from C.

  ## Compiler options

    * `:device` and `:engine` - where to run, as for `EMLX.Backend`. The device defaults to
      `default_device/0`.

    * `:max_concurrency` - the number of partitions of an `Nx.Serving` with
      `partitions: true`. Defaults to 1.

    * `:hooks` - a map of names to functions, which take the place of the
      functions of hooks with these names.

    * `:command_queue` - an `EMLX.CommandQueue` in which to run.

  Other options, such as those that Axon hands on or EXLA has, are left alone; one that is
  nearly one of these raises.

  Hooks and `Nx.runtime_call/4` run in the process that called the function, while
  the program waits for them without holding a thread.

  ## Functions that hold tensors

  A tensor that a function holds without having it as an argument becomes a part of the
  program. Nx does so for tensors of `Nx.BinaryBackend` only, and refuses those of other
  backends, ours too. Make them arguments, which is better for large ones anyway, or copy
  them:

      weights = Nx.backend_copy(weights, Nx.BinaryBackend)
      Nx.Defn.jit(fn x -> Nx.dot(x, weights) end, compiler: EMLX)

  Functions are told apart by what they hold: another value is another program.

  ## Configuration

    * `config :emlx, default_device: :cpu` - see `default_device/0`

    * `config :emlx, engine: :mlx` - whose GPU `:gpu` is, `:mlx` or `:native`, see
      `EMLX.Backend`; the environment variable `EMLX_ENGINE` says the same

    * `config :emlx, handover: :allow` - whether a device may have the CPU compute what it
      cannot, or `:error`: then that raises, naming the operation, when a function is compiled
      or a tensor evaluated; see `handovers/1`. Read when the first device is used

    * `config :emlx, add_backend_on_inspect: true` - whether printing a tensor
      shows a line with its backend and reference

    * `config :emlx, detect_non_finites: false` - whether NaN and infinities raise,
      see `EMLX.Debug`

    * `config :emlx, compile_cache_max_items: 512` - how many compiled functions
      are kept

    * `config :emlx, compile_cache_ttl: 1_800_000` - for how many milliseconds a
      compiled function is kept after its last use, or `:infinity`
  """

  @behaviour Nx.Defn.Compiler

  alias EMLX.{Backend, Compiler, Debug, Device, Native, Program, Quantization}

  @doc """
  Whether two values are the device and the reference of a tensor; for guards.

  ## Examples

      iex> require EMLX
      iex> {device, ref} = EMLX.Backend.from_nx(Nx.tensor(1))
      iex> EMLX.is_tensor(device, ref)
      true

  """
  defguard is_tensor(device, ref) when is_atom(device) and is_reference(ref)

  @doc """
  The device that is used where none is given, `:cpu` unless configured.
  """
  @spec default_device() :: atom
  defdelegate default_device, to: Device, as: :default

  ## Compiler

  @impl true
  def __jit__(key, vars, fun, args_list, options),
    do: key |> Compiler.jit(vars, fun, args_list, options) |> checked(key)

  @impl true
  def __compile__(key, vars, fun, options) do
    run = Compiler.compile_to_function(vars, fun, options)
    fn args_list -> args_list |> run.() |> checked(key) end
  end

  @impl true
  def __shard_jit__(key, mesh, vars, fun, args_list, options),
    do: key |> Compiler.shard_jit(mesh, vars, fun, args_list, options) |> checked(key)

  @impl true
  def __to_backend__(options) do
    Compiler.check_options(options)
    {Backend, device: Compiler.device(options)}
  end

  @impl true
  def __partitions_options__(options),
    do: List.duplicate(options, Compiler.partitions(options))

  defp checked(results, key) do
    if Debug.enabled?(), do: Debug.check!(results, "a result of #{inspect(key)}"), else: results
  end

  ## Programs as files

  @doc """
  Writes a function as a program file.

  `arguments` are tensors, templates or containers of them, as for
  `Nx.Defn.compile/3`. Given as a keyword list, its keys name the inputs: a tensor
  is called by its key, a tensor in a container by its path, such as
  `"params.dense.kernel"`. Without names they are `"arg0"`, `"arg1"` and so on.
  Outputs are named in the same way; a single tensor is called `"output"`, the
  members of a tuple `"output0"`, `"output1"` and so on. A quantized tensor called `"kernel"` is
  several inputs: its bits, which have that name, `"kernel.scales"` and `"kernel.biases"`, those
  that it has. `run/2` takes the quantized tensor for them as well.

  The function itself must be given, not what `Nx.Defn.jit/2` made of it.

  ## Options

    * `:constants` - names of arguments whose tensors are written into the file and are no inputs, as
      the weights of a model. Where the program is loaded they are mapped into memory

  ## Examples

      iex> path = Path.join(System.tmp_dir!(), "emlx_export_doctest.safetensors")
      iex> EMLX.export(&Nx.add/2, [a: Nx.template({2}, :f32), b: Nx.template({}, :f32)], path)
      :ok
      iex> program = EMLX.load(path)
      iex> EMLX.run(program, %{a: Nx.tensor([1.0, 2.0]), b: 10.0})["output"] |> Nx.to_list()
      [11.0, 12.0]

  """
  @spec export(function, list | keyword, Path.t()) :: :ok
  @spec export(function, list | keyword, Path.t(), keyword) :: :ok
  def export(fun, arguments, path, options \\ []) when is_function(fun) and is_list(arguments) do
    options = Keyword.validate!(options, hooks: %{}, constants: [])
    {constants, options} = Keyword.pop!(options, :constants)
    {named, arguments} = name_arguments(arguments)
    constants = constants!(constants, named)
    names = for {name, _value} <- named, do: name
    own = [compiler: Compiler, path: to_string(path), names: names]
    options = own ++ Compiler.known(named, constants) ++ options
    _compiled = Nx.Defn.compile(fun, arguments, options)
    :ok
  end

  defp name_arguments(arguments) do
    {names, values} =
      if Keyword.keyword?(arguments) do
        Enum.unzip(arguments)
      else
        {Enum.map(0..(length(arguments) - 1)//1, &"arg#{&1}"), arguments}
      end

    # Nx bakes lists and functions into the function: they are no inputs.
    named =
      for {name, value} <- Enum.zip(names, values),
          not (is_list(value) or is_function(value)),
          do: {to_string(name), value}

    {named, values}
  end

  defp constants!(constants, named) do
    for name <- Enum.map(constants, &to_string/1) do
      unless List.keymember?(named, name, 0) do
        raise ArgumentError,
              "no argument is called #{name}; there are " <>
                Enum.map_join(named, ", ", &elem(&1, 0))
      end

      name
    end
  end

  @doc """
  Reads a program file.

  See `EMLX.Program` for what can be asked of it, and `run/2`.

  ## Options

    * `:device` and `:engine` - where the program will run, as for `EMLX.Backend`.
      The device defaults to `default_device/0`.
  """
  @spec load(Path.t()) :: Program.t()
  @spec load(Path.t(), keyword) :: Program.t()
  def load(path, options \\ []) do
    options = Keyword.validate!(options, [:device, :engine])
    Program.load(to_string(path), Compiler.device(options))
  end

  @doc """
  Runs a loaded program.

  Inputs given as a map or keyword list are matched by name, and the result is a map
  of the outputs by name. Inputs given as a list are matched by position, and the
  result is a list.
  """
  @spec run(Program.t(), list) :: [Nx.Tensor.t()]
  @spec run(Program.t(), map | keyword) :: %{String.t() => Nx.Tensor.t()}
  def run(%Program{} = program, inputs), do: Program.run(program, inputs)

  @doc """
  The tensors of a file of weights, by name.

  A file is a safetensors file, the index of a model in several of them
  (`model.safetensors.index.json`, whose files lie beside it), or a GGUF file.
  Large files are not read but mapped into memory: opening one of any size takes
  little time, and its pages are read when they are used. Replace such a file
  (write another one and rename it), never change it in its place: a file that
  becomes shorter while its tensors are in use makes work with them fail, and may
  end the VM.

  It is a reader for Bumblebee as well:

      Bumblebee.load_model(repository, safetensors_reader: &EMLX.load_tensors/1)

  Matrices of the formats Q4_0, Q8_0, Q4_K and Q6_K, which GGUF files have, are quantized
  tensors (see `EMLX.Quantization`); other packed blocks are tensors of type u8 whose last
  axis is the bytes of a row.

  ## Options

    * `:device` - where the tensors are to be. Defaults to `default_device/0`.

  ## Examples

      iex> path = Path.join(System.tmp_dir!(), "emlx_tensors_doctest.safetensors")
      iex> header = ~s({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})
      iex> data = <<1.0::float-32-little, 2.0::float-32-little>>
      iex> File.write!(path, [<<byte_size(header)::64-little>>, header, data])
      iex> EMLX.load_tensors(path)["x"] |> Nx.to_list()
      [1.0, 2.0]

  """
  @spec load_tensors(Path.t()) :: %{String.t() => Nx.Tensor.t()}
  @spec load_tensors(Path.t(), keyword) :: %{String.t() => Nx.Tensor.t()}
  def load_tensors(path, options \\ []) do
    options = Keyword.validate!(options, [:device])
    device = Compiler.device(options)
    {_texts, arrays} = Native.archive_read(Native.device(device), to_string(path))

    Map.new(arrays, fn {name, format, dims, ref} ->
      {name, loaded(format, dims, {device, ref})}
    end)
  end

  @packed %{"Q4_0" => "q4_0", "Q8_0" => "q8_0", "Q4_K" => "q4_k", "Q6_K" => "q6_k"}

  defp loaded(format, [_, _] = dims, pair) when is_map_key(@packed, format),
    do: Quantization.quantized_tensor(pair, nil, nil, List.to_tuple(dims), mode: @packed[format])

  defp loaded(_format, _dims, pair), do: Backend.to_nx(pair)

  ## Weights of few bits

  @doc """
  Packs a matrix of floats into a quantized tensor, see `EMLX.Quantization.quantize/2`.
  """
  @spec quantize(Nx.Tensor.t(), keyword) :: Nx.Tensor.t()
  def quantize(%Nx.Tensor{} = tensor, options) when is_list(options),
    do: Quantization.quantize(tensor, options)

  @typep pair :: Backend.ref()
  # What some packed tensors have not got.
  @typep part :: pair | nil

  @doc """
  Packs the matrix of a pair: gives pairs of packed elements, scales and biases, the last of
  which are `nil` for modes that have none.
  """
  @spec quantize(pair, pos_integer, pos_integer) :: {pair, part, part}
  @spec quantize(pair, pos_integer, pos_integer, String.t()) :: {pair, part, part}
  def quantize({device, ref} = pair, group_size, bits, mode \\ "affine")
      when is_tensor(device, ref),
      do: Quantization.pack(pair, group_size, bits, mode)

  @doc "The numbers of a quantized tensor, see `EMLX.Quantization.dequantize/1`."
  @spec dequantize(Nx.Tensor.t()) :: Nx.Tensor.t()
  def dequantize(%Nx.Tensor{} = tensor), do: Quantization.dequantize(tensor)

  @doc "The numbers of packed elements, scales and biases, which are pairs."
  @spec dequantize(pair, part, part, pos_integer, pos_integer) :: pair
  @spec dequantize(pair, part, part, pos_integer, pos_integer, String.t()) :: pair
  def dequantize(packed, scales, biases, group_size, bits, mode \\ "affine"),
    do: Quantization.unpack(packed, scales, biases, group_size, bits, mode)

  @doc "A product with a quantized tensor, see `EMLX.Quantization.quantized_matmul/2`."
  @spec quantized_matmul(Nx.Tensor.t(), Nx.Tensor.t()) :: Nx.Tensor.t()
  def quantized_matmul(%Nx.Tensor{} = activation, %Nx.Tensor{} = weights),
    do: Quantization.quantized_matmul(activation, weights)

  @doc """
  The product of a pair with packed weights: with `transpose` their rows are multiplied, else
  their columns.
  """
  @spec quantized_matmul(pair, pair, part, part) :: pair
  @spec quantized_matmul(pair, pair, part, part, boolean) :: pair
  @spec quantized_matmul(pair, pair, part, part, boolean, pos_integer) :: pair
  @spec quantized_matmul(pair, pair, part, part, boolean, pos_integer, pos_integer) :: pair
  @spec quantized_matmul(pair, pair, part, part, boolean, pos_integer, pos_integer, String.t()) ::
          pair
  def quantized_matmul(
        tensor,
        packed,
        scales,
        biases,
        transpose \\ true,
        group_size \\ 64,
        bits \\ 4,
        mode \\ "affine"
      ) do
    weights = Quantization.unpack(packed, scales, biases, group_size, bits, mode)
    axis = if transpose, do: 1, else: 0

    tensor
    |> Backend.to_nx()
    |> Nx.dot([-1], Backend.to_nx(weights), [axis])
    |> Backend.from_nx()
  end

  ## Evaluation and memory

  @doc """
  Marks the tensors of a container as given to the next program that takes them.

  A compiled function, or a program of `load/2`, may write its results over what it is
  given, as long as nobody else holds it: a step that changes a few rows of a large state
  then neither copies the state nor needs memory for a second one (other libraries call
  that donation). The tensors are gone after the call, also where it fails: using them raises.
  Tensors that are quantized or elsewhere are left as they are, and are copied as ever.

  ## Examples

      iex> add = Nx.Defn.jit(&Nx.add/2, compiler: EMLX)
      iex> state = Nx.tensor([1, 2, 3], backend: EMLX.Backend)
      iex> add.(EMLX.give(state), 1) |> Nx.to_list()
      [2, 3, 4]
      iex> Nx.to_list(state)
      ** (ArgumentError) the tensor has been deallocated

  """
  @spec give(container) :: container when container: Nx.Container.t()
  def give(container), do: Nx.Defn.Composite.traverse(container, &Backend.give/1)

  @doc """
  Computes the tensors of a container now, and returns it.

  Reading a tensor does so anyway; this is for timing, and to decide when the
  work is done. A `{device, reference}` pair is computed as well, and gives `:ok`.

  ## Examples

      iex> t = Nx.add(Nx.tensor([1, 2], backend: EMLX.Backend), 1)
      iex> EMLX.eval(t) |> Nx.to_list()
      [2, 3]

  """
  @spec eval(container) :: container when container: Nx.Container.t()
  @spec eval(Backend.ref()) :: :ok
  def eval({device, ref}) when is_tensor(device, ref), do: Backend.evaluate([ref], device)

  def eval(container) do
    refs =
      for %Nx.Tensor{data: %Backend{ref: {device, ref}}} <-
            Nx.Defn.Composite.flatten_list([container]),
          do: {device, ref}

    for {device, refs} <- Enum.group_by(refs, &elem(&1, 0), &elem(&1, 1)),
        do: :ok = Backend.evaluate(refs, device)

    if Debug.enabled?(),
      do: Debug.check!(container, "a tensor given to EMLX.eval/1"),
      else: container
  end

  @doc """
  Bytes held by tensors of a device (`:active_memory`), the highest number so far
  (`:peak_memory`), bytes kept for reuse (`:cache_memory`) and the limit on both
  (`:memory_limit`, 0 for none).

  Devices that compute in the memory of the host, as the CPU does, share it. This is
  true of the other functions on memory as well.

  ## Examples

      iex> EMLX.memory_info() |> Map.keys() |> Enum.sort()
      [:active_memory, :cache_memory, :memory_limit, :peak_memory]

  """
  @spec memory_info() :: %{atom => non_neg_integer}
  @spec memory_info(atom | {:gpu, non_neg_integer}) :: %{atom => non_neg_integer}
  def memory_info(device \\ default_device()) do
    {active, peak, cached, limit} = device |> Native.device() |> Native.memory_info()
    %{active_memory: active, peak_memory: peak, cache_memory: cached, memory_limit: limit}
  end

  @doc """
  Limits the bytes held by tensors of a device and kept for reuse; 0 for no limit. Returns the
  previous limit.
  """
  @spec set_memory_limit(non_neg_integer) :: non_neg_integer
  @spec set_memory_limit(non_neg_integer, atom | {:gpu, non_neg_integer}) :: non_neg_integer
  def set_memory_limit(bytes, device \\ default_device()),
    do: device |> Native.device() |> Native.set_memory_limit(bytes)

  @doc """
  Limits the bytes kept for reuse. Returns the previous limit.
  """
  @spec set_cache_limit(non_neg_integer) :: non_neg_integer
  @spec set_cache_limit(non_neg_integer, atom | {:gpu, non_neg_integer}) :: non_neg_integer
  def set_cache_limit(bytes, device \\ default_device()),
    do: device |> Native.device() |> Native.set_cache_limit(bytes)

  @doc """
  Gives the bytes kept for reuse back to the system.
  """
  @spec clear_cache() :: :ok
  @spec clear_cache(atom | {:gpu, non_neg_integer}) :: :ok
  def clear_cache(device \\ default_device()),
    do: device |> Native.device() |> Native.clear_cache()

  @doc """
  Starts measuring the peak of memory anew.
  """
  @spec reset_peak_memory() :: :ok
  @spec reset_peak_memory(atom | {:gpu, non_neg_integer}) :: :ok
  def reset_peak_memory(device \\ default_device()),
    do: device |> Native.device() |> Native.reset_peak_memory()

  @doc """
  Opens a device anew, for all who use it.

  A kernel that faults leaves a GPU in a state in which every call fails, with an `EMLX.Error`
  whose `kind` is `:lost`. What tensors there held is lost then. This gives the device back, where
  the driver does: NVIDIA's may refuse it to a process in which a kernel has faulted, so that only
  a new VM gets the GPU, while this one goes on with other devices. A device that cannot fail in
  such a way stays as it is.

  ## Examples

      iex> EMLX.reset_device(:cpu)
      :ok

  """
  @spec reset_device() :: :ok
  @spec reset_device(atom | {:gpu, non_neg_integer}) :: :ok
  def reset_device(device \\ default_device()), do: device |> Native.device() |> Native.reset()

  ## Hand-overs

  @doc """
  What the CPU has computed in place of a device, as that device's engine cannot: operations
  with how often, since the device was opened.

  `config :emlx, handover: :error` makes it an error instead.

  ## Examples

      iex> EMLX.handovers(:cpu)
      %{}

  """
  @spec handovers() :: %{String.t() => pos_integer}
  @spec handovers(atom | {:gpu, non_neg_integer}) :: %{String.t() => pos_integer}
  def handovers(device \\ default_device()),
    do: device |> Native.device() |> Native.handovers() |> Map.new()

  @doc """
  Starts a frame capture of Metal into the file `path`, which should end in `.gputrace`: what MLX
  does on its GPU from now on until `metal_stop_capture/0`, for Xcode to look at.

  Metal allows captures only where `MTL_CAPTURE_ENABLED=1` was in the environment when the VM
  started. Raises `EMLX.Error` where it does not, where a capture runs already, and where there is no
  Metal.

      EMLX.metal_start_capture("/tmp/step.gputrace")
      Nx.to_number(step.(tensors))
      EMLX.metal_stop_capture()

  """
  @spec metal_start_capture(Path.t()) :: :ok
  def metal_start_capture(path) when is_binary(path) and path != "",
    do: Device.captured() |> Native.device() |> Native.capture(path)

  @doc """
  Ends what `metal_start_capture/1` began; work that was started before has ended then.
  """
  @spec metal_stop_capture() :: :ok
  def metal_stop_capture, do: Device.captured() |> Native.device() |> Native.capture("")

  ## On {device, reference} pairs

  documented = EMLX.Pairs.documented()

  for {name, arity} <- EMLX.Pairs.__info__(:functions), name != :documented do
    # A function with a default has the documentation of the one that takes all.
    {text, specs} = documented[{name, arity}] || documented[{name, arity + 1}]
    arguments = Macro.generate_arguments(arity, __MODULE__)
    @doc text
    @doc group: "On references"
    for spec <- specs, EMLX.PairDocs.arity(spec) == arity, do: @spec(unquote(spec))
    defdelegate unquote(name)(unquote_splicing(arguments)), to: EMLX.Pairs
  end
end
