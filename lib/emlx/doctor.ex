# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Doctor do
  @moduledoc false
  # What `mix emlx.doctor` finds out: a list of lines, each `:ok`, `:note` or
  # `:missing`, with what to do about the last.

  alias EMLX.{Native, NIF}

  @type line :: {:ok | :note | :missing, subject :: String.t(), text :: String.t()}

  # Variables of other builds of EMLX; ours is one library with no parts to fetch.
  @foreign ~w(LIBMLX_VERSION LIBMLX_MACOS_COMPAT LIBMLX_DEPLOYMENT_TARGET LIBMLX_ENABLE_JIT
              LIBMLX_ENABLE_DEBUG LIBMLX_CACHE LIBMLX_BUILD MLX_ARCHIVE_PATH MLX_ARCHIVE_URL
              MLX_ARCHIVE_INTEGRITY)

  @without_meaning [:cross_device_promotion, :warn_cross_device, :enable_bounds_check] ++
                     [:compiler_debug]

  @doc "Examines this machine and this configuration."
  @spec lines() :: [line]
  def lines do
    [versions(), nx(), native(), configuration(), environment(), tools()] |> List.flatten()
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
      if devices == ["cpu"] do
        {:note, "GPU", "none that this build can use; device: :gpu will raise"}
      else
        []
      end,
      memory(),
      computes()
    ]
  rescue
    error in EMLX.Error -> [{:missing, "libemlx", Exception.message(error)}]
  end

  defp device(name) do
    {:ok, {^name, text}} = name |> String.to_atom() |> Native.device() |> NIF.device_describe()
    {:ok, "device :#{name}", text}
  end

  defp memory do
    info = EMLX.memory_info()

    limit =
      if info.memory_limit == 0, do: "none", else: "#{div(info.memory_limit, 1_048_576)} MiB"

    {:ok, "memory limit", limit}
  end

  # That the parts fit together is best shown by using them.
  defp computes do
    product =
      Nx.Defn.jit_apply(&Nx.dot/2, [identity(2.0), identity(3.0)], compiler: EMLX)
      |> Nx.to_flat_list()

    if product == [6.0, 0.0, 0.0, 6.0],
      do: {:ok, "a product", "computed"},
      else: {:missing, "a product", "is #{inspect(product)}; please report this"}
  end

  defp identity(scale),
    do: Nx.tensor([[scale, 0.0], [0.0, scale]], type: :f32, backend: EMLX.Backend)

  ## Configuration and environment

  defp configuration do
    set = for {key, value} <- Application.get_all_env(:emlx), is_atom(key), do: {key, value}

    [
      default_device(EMLX.default_device()),
      for(
        {key, value} <- set,
        key in @without_meaning,
        do: {:note, "config #{key}", "is #{inspect(value)}, and means nothing here"}
      )
    ]
  end

  defp default_device(device) do
    _ = Native.device(device)
    {:ok, "default device", inspect(device)}
  rescue
    error in [ArgumentError, EMLX.Error] ->
      {:missing, "default device", "#{inspect(device)}: #{Exception.message(error)}"}
  end

  defp environment do
    for name <- @foreign,
        System.get_env(name),
        do: {:note, name, "is set, and means nothing here: no library is fetched"}
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
