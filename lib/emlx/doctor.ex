# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Doctor do
  @moduledoc false
  # What `mix emlx.doctor` finds out: a list of lines, each `:ok`, `:note` or
  # `:missing`, with what to do about the last.

  alias EMLX.{Device, Native, NIF}

  @type line :: {:ok | :note | :missing, subject :: String.t(), text :: String.t()}

  # Variables that mean something to `make mlx` alone.
  @foreign ~w(LIBMLX_VERSION LIBMLX_MACOS_COMPAT LIBMLX_DEPLOYMENT_TARGET LIBMLX_ENABLE_JIT
              LIBMLX_ENABLE_DEBUG LIBMLX_CACHE LIBMLX_BUILD MLX_ARCHIVE_PATH MLX_ARCHIVE_URL
              MLX_ARCHIVE_INTEGRITY)

  @without_meaning [:cross_device_promotion, :warn_cross_device, :enable_bounds_check] ++
                     [:compiler_debug]

  # What `config :emlx` may set, and to what; the device is looked at by itself.
  @settings [
    default_device: {:device?, "a device"},
    engine: {:engine?, ":native or :mlx"},
    handover: {:handover?, ":allow or :error"},
    add_backend_on_inspect: {:is_boolean, "true or false"},
    detect_non_finites: {:is_boolean, "true or false"},
    profile_eval: {:is_boolean, "true or false"},
    observe: {:is_boolean, "true or false"},
    compile_cache_max_items: {:count?, "a number from 0, or :infinity"},
    compile_cache_ttl: {:count?, "a number of milliseconds from 0, or :infinity"}
  ]

  # The CPU levels of the library's table, those of other machines among them.
  @external_resource levels = Path.expand("../../src/engines/cpu/kernels/levels.def", __DIR__)
  @levels for [_, name] <- Regex.scan(~r/^CPU_(?:LEVEL|DOTS)\((\w+)/m, File.read!(levels)),
              do: name

  # The same of the environment. What the last ones are for is no business of a program that runs.
  @variables %{
    "EMLX_NUM_THREADS" => {1..1024, "a number from 1 to 1024"},
    "EMLX_ENGINE" => {~w(native mlx), "native or mlx"},
    "EMLX_NICE" => {0..19, "a number from 0 to 19"},
    "EMLX_CPU_LEVEL" => {@levels, Enum.join(@levels, ", ")},
    "EMLX_PROFILE_EVAL" => {~w(0 1), "0 or 1"}
  }
  @ours_otherwise ~w(EMLX_ENGINES EMLX_VERSION EMLX_CLI EMLX_CHECK_PLANS EMLX_FUZZ_ROUNDS
                     EMLX_TEST_TIMEOUT EMLX_BEAM_TIMEOUT)

  # Engines of devices have some of their own.
  @of_engines ~w(EMLX_CUDA_ EMLX_MLX_)

  @doc "Examines this machine and this configuration."
  @spec lines() :: [line]
  def lines do
    List.flatten([versions(), nx(), native(), configuration(), environment(), tools()])
  end

  defp versions do
    otp = System.otp_release()
    elixir = System.version()

    [
      requirement("Elixir", elixir, Version.match?(elixir, "~> 1.17"), "1.17 is needed"),
      requirement("Erlang/OTP", otp, String.to_integer(otp) >= 25, "25 is needed")
    ]
  end

  defp nx do
    version = version(:nx)
    fits = version != nil and Version.match?(version, "~> 0.13 or ~> 1.0", allow_pre: true)

    [
      requirement("Nx", version || "none", fits, ~s(add {:nx, "~> 0.13"} to the dependencies)),
      requirement(
        "telemetry",
        version(:telemetry) || "none",
        version(:telemetry) != nil,
        "mix deps.get"
      )
    ]
  end

  defp version(app) do
    case Application.load(app) do
      :ok -> app |> Application.spec(:vsn) |> to_string()
      {:error, {:already_loaded, _}} -> app |> Application.spec(:vsn) |> to_string()
      {:error, _} -> nil
    end
  end

  defp requirement(subject, version, true, _remedy), do: {:ok, subject, version}

  defp requirement(subject, version, false, remedy),
    do: {:missing, subject, "#{version}; #{remedy}"}

  ## The native library

  defp native do
    version = NIF.version()
    devices = NIF.devices()

    [
      {:ok, "libemlx", version},
      Enum.map(devices, &device/1),
      for({name, why} <- NIF.devices_missing(), do: {:note, "device :#{name}", "none: #{why}"}),
      gpus(devices),
      memory(),
      handovers(),
      Enum.map(devices, &computes/1)
    ]
  rescue
    error in EMLX.Error -> [{:missing, "libemlx", Exception.message(error)}]
  end

  defp device(name) do
    {:ok, {^name, text}} = name |> String.to_atom() |> Native.device() |> NIF.device_describe()
    {:ok, "device :#{name}", text}
  rescue
    error in [ArgumentError, EMLX.Error] ->
      {:missing, "device :#{name}", Exception.message(error)}
  end

  # What :gpu means, in what order.
  defp gpus(devices) do
    case Device.gpus(devices, nil) do
      [] -> {:note, "GPU", "none that this build can use; device: :gpu will raise"}
      names -> {:ok, "GPU", "device: :gpu is #{Enum.join(names, ", then ")}"}
    end
  rescue
    error in ArgumentError -> {:note, "GPU", Exception.message(error)}
  end

  defp handovers do
    if Device.refuses_handovers?(),
      do: {:ok, "hand-overs", "what a device cannot compute raises"},
      else: {:ok, "hand-overs", "what a device cannot compute the CPU does, which is counted"}
  rescue
    error in ArgumentError -> {:missing, "hand-overs", Exception.message(error)}
  end

  defp memory do
    info = EMLX.memory_info(:cpu)

    limit =
      if info.memory_limit == 0, do: "none", else: "#{div(info.memory_limit, 1_048_576)} MiB"

    {:ok, "memory limit", limit}
  rescue
    error in [ArgumentError, EMLX.Error] -> {:missing, "memory limit", Exception.message(error)}
  end

  # That the parts fit together is best shown by using them: whatever the default is, on the
  # devices that are there.
  defp computes(name) do
    device = String.to_atom(name)
    subject = "a product on :#{name}"
    matrices = for scale <- [2.0, 3.0], do: identity(scale, device)
    product = Nx.Defn.jit_apply(&Nx.dot/2, matrices, compiler: EMLX, device: device)

    case Nx.to_flat_list(product) do
      [6.0, +0.0, +0.0, 6.0] -> {:ok, subject, "computed"}
      other -> {:missing, subject, "is #{inspect(other)}; please report this"}
    end
  rescue
    # The defaults of Nx.Defn, which are looked at below, count here as well.
    error in [ArgumentError, EMLX.Error] ->
      {:missing, "a product on :#{name}", Exception.message(error)}
  end

  defp identity(scale, device),
    do:
      Nx.tensor([[scale, 0.0], [0.0, scale]], type: :f32, backend: {EMLX.Backend, device: device})

  ## Configuration and environment

  defp configuration do
    set = Application.get_all_env(:emlx)

    [
      device("default device", &EMLX.default_device/0),
      device("Nx's default backend", fn -> device_of(Nx.default_backend()) end),
      device("Nx's default compiler", fn -> device_of(Nx.Defn.default_options()) end),
      set |> Enum.sort() |> Enum.map(fn {key, value} -> setting(key, value) end)
    ]
  end

  # Those of others are their own business.
  defp device_of({EMLX.Backend, options}), do: options[:device] || EMLX.default_device()
  defp device_of({_backend, _options}), do: nil

  defp device_of(options) do
    if options[:compiler] == EMLX do
      {EMLX.Backend, options} = Nx.Defn.to_backend(options)
      options[:device]
    end
  end

  defp device(subject, device) do
    case device.() do
      nil ->
        []

      device ->
        _ = Native.device(device)
        {:ok, subject, inspect(device)}
    end
  rescue
    error in [ArgumentError, EMLX.Error] -> {:missing, subject, Exception.message(error)}
  end

  defp setting(key, value) when key in @without_meaning,
    do: {:note, "config #{key}", "is #{inspect(value)}, and means nothing here"}

  defp setting(key, value) do
    case @settings[key] do
      nil ->
        known = Enum.map_join(Keyword.keys(@settings), ", ", &inspect/1)
        {:note, "config #{key}", "is no setting of ours; those are #{known}"}

      {check, words} ->
        if fits?(check, value),
          do: [],
          else: {:note, "config #{key}", "is #{inspect(value)}; it should be #{words}"}
    end
  end

  defp fits?(:device?, value), do: is_atom(value) or match?({:gpu, _}, value)
  defp fits?(:engine?, value), do: value in [:native, :mlx]
  defp fits?(:handover?, value), do: value in [:allow, :error]
  defp fits?(:is_boolean, value), do: is_boolean(value)
  defp fits?(:count?, value), do: value == :infinity or (is_integer(value) and value >= 0)

  defp environment do
    for {name, value} <- Enum.sort(System.get_env()), do: variable(name, value)
  end

  defp variable(name, _value) when name in @foreign,
    do: {:note, name, "is set; it is for make mlx, and means nothing while EMLX runs"}

  defp variable(name, value) when is_map_key(@variables, name) do
    {valid, words} = @variables[name]

    if Enum.any?(valid, &(to_string(&1) == value)),
      do: [],
      else: {:note, name, "is #{inspect(value)}, which counts as none; it should be #{words}"}
  end

  defp variable(name, _value) when name in @ours_otherwise, do: []

  defp variable("EMLX_" <> _ = name, _value) do
    if String.starts_with?(name, @of_engines), do: [], else: unknown(name)
  end

  defp variable(_name, _value), do: []

  defp unknown(name) do
    known = @variables |> Map.keys() |> Enum.join(", ")
    {:note, name, "is no variable of ours; those are #{known}"}
  end

  ## What a build needs

  defp tools do
    for {command, use} <- [{"make", "to build"}, {System.get_env("CC", "cc"), "to build"}] do
      if System.find_executable(command),
        do: {:ok, command, "found"},
        else: {:note, command, "is not there; it is needed #{use}, not to run"}
    end
  end
end
