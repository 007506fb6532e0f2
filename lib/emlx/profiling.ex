# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Profiling do
  @moduledoc """
  Counts of evaluations and reads, to find out where a loop waits for results.

  Counting starts with the application if the environment has `EMLX_PROFILE_EVAL=1` or
  the configuration `config :emlx, profile_eval: true`, and later with `init/0`. Where it
  was not started it costs nothing.
  """

  @events %{[:emlx, :eval, :stop] => :eval, [:emlx, :to_binary, :stop] => :to_blob}
  @counters [eval: 1, item: 2, to_blob: 3]

  @type counts :: %{
          eval: non_neg_integer,
          item: non_neg_integer,
          to_blob: non_neg_integer
        }

  @doc "Starts counting, from zero."
  @spec init() :: :ok
  def init do
    :persistent_term.put(__MODULE__, :counters.new(length(@counters), [:atomics]))
    :telemetry.detach(__MODULE__)
    :telemetry.attach_many(__MODULE__, Map.keys(@events), &__MODULE__.handle/4, nil)
  end

  @doc "Stops counting."
  @spec stop() :: :ok
  def stop do
    :telemetry.detach(__MODULE__)
    :persistent_term.erase(__MODULE__)
    :ok
  end

  @doc false
  def init_if_configured do
    if System.get_env("EMLX_PROFILE_EVAL") == "1" or
         Application.get_env(:emlx, :profile_eval, false),
       do: init(),
       else: :ok
  end

  @doc false
  def handle(event, _measurements, _metadata, _config), do: count(Map.fetch!(@events, event))

  @doc false
  @spec count(atom) :: :ok
  def count(what) do
    case counters() do
      nil -> :ok
      counters -> :counters.add(counters, @counters[what], 1)
    end
  end

  @doc "Whether counts are kept."
  @spec enabled?() :: boolean
  def enabled?, do: counters() != nil

  @doc """
  How many evaluations there were, reads of tensors, and calls of `EMLX.item/1`.

  ## Examples

      iex> EMLX.Profiling.init()
      iex> t = Nx.add(Nx.tensor(1, backend: EMLX.Backend), 1)
      iex> Nx.to_number(t)
      2
      iex> {:ok, %{item: 0}} = EMLX.Profiling.read()
      iex> EMLX.Profiling.stop()
      :ok

  """
  @spec read() :: {:ok, counts} | {:error, :not_initialized}
  def read do
    case counters() do
      nil ->
        {:error, :not_initialized}

      counters ->
        {:ok, Map.new(@counters, fn {name, i} -> {name, :counters.get(counters, i)} end)}
    end
  end

  @doc "Sets the counts to zero."
  @spec reset() :: :ok
  def reset do
    if counters = counters(),
      do: Enum.each(@counters, fn {_name, i} -> :counters.put(counters, i, 0) end)

    :ok
  end

  @doc "Prints the counts in one line."
  @spec snapshot(String.t()) :: :ok
  def snapshot(label \\ "") do
    text =
      case read() do
        {:ok, counts} ->
          Enum.map_join(@counters, " ", fn {name, _} -> "#{name}=#{counts[name]}" end)

        {:error, _} ->
          "nothing is counted; set EMLX_PROFILE_EVAL=1, or call EMLX.Profiling.init/0"
      end

    IO.puts(String.trim("EMLX.Profiling #{label}") <> ": " <> text)
  end

  defp counters, do: :persistent_term.get(__MODULE__, nil)
end
