# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Device do
  @moduledoc false
  # Which device is meant by the options :device and :engine. A tensor's device is an atom: :cpu,
  # :gpu, or the name that the library has for it, as :"cuda:1".

  alias EMLX.NIF

  @doc "The device of a keyword list of options; without any, the default."
  @spec chosen(keyword) :: atom
  def chosen(options), do: options[:device] |> name(options[:engine])

  @doc "The default device: `config :emlx, default_device:`, or the CPU."
  @spec default() :: atom
  def default, do: name(Application.get_env(:emlx, :default_device) || :cpu, nil)

  defp name(device, nil) when is_atom(device) and device != nil, do: device
  defp name(nil, nil), do: default()
  defp name(nil, engine), do: name(default(), engine)
  defp name({:gpu, 0}, nil), do: :gpu

  defp name({:gpu, number}, engine) when is_integer(number) and number >= 0,
    do: numbered(gpus(NIF.devices(), engine), number)

  defp name(:gpu, engine), do: name({:gpu, 0}, engine)
  defp name(:cpu, engine) when engine in [:native, "native"], do: :cpu

  defp name(device, engine) when is_atom(device) do
    _ = engines(:os.type(), engine)

    raise ArgumentError,
          "an :engine says which GPU is meant by device: :gpu, got: #{inspect(device)}; " <>
            "MLX's own CPU is device: :\"mlx-cpu\""
  end

  defp name(device, _engine) do
    raise ArgumentError,
          "a device must be :cpu, :gpu, {:gpu, number} or the name of one as an atom, " <>
            "got: #{inspect(device)}"
  end

  defp numbered([], _number), do: no_gpu()

  defp numbered(gpus, number) do
    case Enum.at(gpus, number) do
      nil ->
        raise ArgumentError,
              "there is no {:gpu, #{number}}; the GPUs here are #{Enum.join(gpus, ", ")}, " <>
                "counted from 0"

      # As many as there are devices.
      name ->
        String.to_atom(name)
    end
  end

  @doc "What the library calls a device."
  @spec native_name(atom) :: String.t()
  def native_name(:gpu), do: NIF.devices() |> gpus(nil) |> List.first() || no_gpu()
  def native_name(name), do: Atom.to_string(name)

  defp no_gpu do
    raise ArgumentError,
          "there is no GPU that this build of EMLX can use, only " <>
            "#{Enum.join(NIF.devices(), ", ")}; pass device: :cpu, or ask mix emlx.doctor what is missing"
  end

  @doc """
  Of these devices those that are called :gpu and {:gpu, 1}: the ones of the first engine that has
  any. That is Metal through MLX on a Mac and CUDA elsewhere, unless :native or :mlx is asked for.
  """
  @spec gpus([String.t()], term, {atom, atom}) :: [String.t()]
  def gpus(devices, engine, os \\ :os.type()) do
    Enum.find_value(engines(os, engine || configured()), [], fn engine ->
      found = Enum.filter(devices, &(&1 |> String.split(":") |> hd() == engine))
      if found != [], do: found
    end)
  end

  @doc "MLX's GPU, which captures are of."
  @spec captured() :: atom
  def captured do
    case gpus(NIF.devices(), :mlx) do
      [name | _] ->
        String.to_atom(name)

      [] ->
        why = for {"mlx", why} <- NIF.devices_missing(), into: "", do: why

        raise EMLX.Error,
          kind: :unsupported,
          message: "frame captures are Metal's, by way of MLX, and there is no device mlx: #{why}"
    end
  end

  defp configured, do: Application.get_env(:emlx, :engine) || System.get_env("EMLX_ENGINE")

  defp engines(os, engine) do
    case {engine, os} do
      {native, _} when native in [:native, "native"] -> ["cuda"]
      {mlx, _} when mlx in [:mlx, "mlx"] -> ["mlx"]
      {none, {:unix, :darwin}} when none in [nil, ""] -> ["mlx"]
      {none, _} when none in [nil, ""] -> ["cuda", "mlx"]
      {other, _} -> raise ArgumentError, "an engine is :native or :mlx, got: #{inspect(other)}"
    end
  end

  @doc """
  Whether it is an error where a device has the host compute for it: `config :emlx, handover:`.
  """
  @spec refuses_handovers?() :: boolean
  def refuses_handovers? do
    case Application.get_env(:emlx, :handover, :allow) do
      :allow ->
        false

      :error ->
        true

      other ->
        raise ArgumentError,
              "config :emlx, handover: must be :allow or :error, got: #{inspect(other)}"
    end
  end
end
