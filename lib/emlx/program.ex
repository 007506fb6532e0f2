# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Program do
  @moduledoc """
  A program loaded from a file with `EMLX.load/2`, to be run with `EMLX.run/2`.

  The fields `inputs` and `outputs` are lists of maps with a `:name`, a `:type`
  and a `:shape`, in the program's order.
  """

  alias EMLX.{Backend, Native, Packed, Quantization, Types}

  @enforce_keys [:ref, :device, :inputs, :outputs]
  defstruct [:ref, :device, :inputs, :outputs]

  @type port_info :: %{name: String.t(), type: Nx.Type.t(), shape: tuple}
  @type t :: %__MODULE__{
          ref: reference,
          device: atom,
          inputs: [port_info],
          outputs: [port_info]
        }

  @doc false
  def load(path, device) do
    ref = Native.load(Native.device(device), path)
    {inputs, outputs, _kernels, _ops} = Native.program_info(ref)

    %__MODULE__{
      ref: ref,
      device: device,
      inputs: Enum.map(inputs, &port_info/1),
      outputs: Enum.map(outputs, &port_info/1)
    }
  end

  defp port_info({name, type, dims}),
    do: %{name: name, type: Types.from_native(type), shape: List.to_tuple(dims)}

  @doc false
  def run(%__MODULE__{} = program, [{name, _tensor} | _rest] = inputs) when is_atom(name),
    do: run(program, Map.new(inputs))

  def run(%__MODULE__{} = program, inputs) when is_list(inputs) do
    inputs = Enum.flat_map(inputs, &parts/1)

    if length(inputs) != length(program.inputs) do
      raise ArgumentError,
            "the program takes #{length(program.inputs)} inputs " <>
              "(#{names(program.inputs)}), got #{length(inputs)}"
    end

    refs = Enum.zip_with(program.inputs, inputs, &input(&1, &2, program.device))
    outputs = Native.run(program.ref, refs)
    Enum.zip_with(program.outputs, outputs, &output(&1, &2, program.device))
  end

  def run(%__MODULE__{} = program, %{} = inputs) do
    inputs = inputs |> Enum.flat_map(&named_parts/1) |> Map.new()
    known = Enum.map(program.inputs, & &1.name)

    if Enum.sort(known) != Enum.sort(Map.keys(inputs)) do
      raise ArgumentError,
            "the program takes the inputs #{names(program.inputs)}, " <>
              "got: #{Enum.join(Map.keys(inputs), ", ")}"
    end

    outputs = run(program, Enum.map(known, &Map.fetch!(inputs, &1)))
    program.outputs |> Enum.map(& &1.name) |> Enum.zip(outputs) |> Map.new()
  end

  # A quantized tensor is several inputs.
  defp parts(tensor),
    do: if(Quantization.quantized?(tensor), do: Quantization.tensors(tensor), else: [tensor])

  defp named_parts({name, tensor}) do
    parts = parts(tensor)
    name |> to_string() |> Packed.part_names(length(parts)) |> Enum.zip(parts)
  end

  defp names(ports), do: Enum.map_join(ports, ", ", & &1.name)

  defp input(%{name: name, type: type, shape: shape}, tensor, device) do
    tensor = tensor |> Nx.to_tensor() |> Nx.devectorize()

    if tensor.type != type or tensor.shape != shape do
      raise ArgumentError,
            "input #{name} must be #{describe(type, shape)}, " <>
              "got #{describe(tensor.type, tensor.shape)}"
    end

    Backend.input(tensor, device)
  end

  defp describe(type, shape), do: "#{Types.to_native(type)} #{inspect(shape)}"

  defp output(%{type: type, shape: shape}, ref, device) do
    names = List.duplicate(nil, tuple_size(shape))
    Backend.put(%Nx.Tensor{type: type, shape: shape, names: names, data: nil}, device, ref)
  end
end
