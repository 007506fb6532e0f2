# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Telemetry do
  @moduledoc """
  What EMLX reports through [telemetry](https://hexdocs.pm/telemetry).

  ## Spans

  Each of these is a `:start` event followed by a `:stop` or an `:exception` event,
  with the measurements of `:telemetry.span/3`: `:system_time` and
  `:monotonic_time` at the start, `:duration` and `:monotonic_time` at the end.

  | event | when | metadata |
  |---|---|---|
  | `[:emlx, :compile, _]` | a function is compiled, as it was not in the cache | `:device`, `:arguments` (their number) |
  | `[:emlx, :eval, _]` | recorded operations are computed, by `EMLX.eval/1` or because a tensor is read | `:device`, `:count` (of tensors asked for) |
  | `[:emlx, :to_binary, _]` | a tensor is read | `:device`, `:shape`, `:dtype`, `:byte_size` |

  The metadata of all three has a `:telemetry_span_context` that is the same in both
  events of a span. Operations themselves report nothing: they are only recorded.

  ## The cache of compiled functions

  | event | when | metadata |
  |---|---|---|
  | `[:emlx, :cache, :hit]` | a compiled function was found | |
  | `[:emlx, :cache, :miss]` | there was none, and it is compiled now | |
  | `[:emlx, :cache, :evict]` | some are dropped | `:reason`: `:full` for those used longest ago, as there are more than `:compile_cache_max_items`, `:unused` for those not used for `:compile_cache_ttl` |

  The measurements of all three are `:count`, how many it is about, and `:size`, how
  many are kept at that time. A process that waits for another to compile the same
  function reports a hit when it is given it. Evictions are reported by the process
  that keeps the cache: what listens to them must not call compiled functions.

  ## Events of the library

  What happens below Elixir, once `observe/1` has asked for it, or with `config :emlx, observe: true`:

  | event | when | measurements |
  |---|---|---|
  | `[:emlx, :library, :compiled]` | a computation was planned, as there was no plan of its structure | `:count` of kernels, `:duration` |
  | `[:emlx, :library, :evaluated]` | results of an evaluation or a compiled function were computed or, where a device works on by itself, queued | `:count` of results, `:duration` |
  | `[:emlx, :library, :handed_over]` | the CPU computed an operation in place of a device | `:count` |
  | `[:emlx, :library, :memory]` | tensors hold an eighth, and 64 MB, more than any time before; or an allocation was refused | `:bytes` that they hold, `:refused` bytes |
  | `[:emlx, :library, :evicted]` | a plan was dropped, as more are kept than may be | `:count` |

  The metadata has the name of the `:device`, and `:op` where one is meant, else `nil`. A process of
  EMLX's sends them, shortly after they happened; those that it does not keep up with are lost.

  ## Values

  | event | measurements |
  |---|---|
  | `[:emlx, :memory, :stats]` | those of `EMLX.memory_info/0` |
  | `[:emlx, :handover, :stats]` | `:count`, how many operations the CPU has computed in place of a device; the metadata has the `:device`, and `:ops`, what `EMLX.handovers/1` gives |
  | `[:emlx, :cache, :stats]` | `:size`, and since the start `:hits`, `:misses` and `:evictions` |

  These are sent by `memory_stats/0`, `handover_stats/1` and `cache_stats/0`, which are meant to be called
  by a poller:

      {:telemetry_poller,
       measurements: [
         {EMLX.Telemetry, :memory_stats, []},
         {EMLX.Telemetry, :handover_stats, [:gpu]},
         {EMLX.Telemetry, :cache_stats, []}
       ],
       period: :timer.seconds(10)}
  """

  @doc """
  Sends `[:emlx, :memory, :stats]` and returns its measurements.

  ## Examples

      iex> %{active_memory: active, peak_memory: peak} = EMLX.Telemetry.memory_stats()
      iex> peak >= active
      true

  """
  @spec memory_stats() :: %{atom => non_neg_integer}
  def memory_stats, do: report([:emlx, :memory, :stats], EMLX.memory_info())

  @doc """
  Sends `[:emlx, :handover, :stats]` for a device and returns its measurements.

  ## Examples

      iex> EMLX.Telemetry.handover_stats(:cpu)
      %{count: 0}

  """
  @spec handover_stats(atom | {:gpu, non_neg_integer}) :: %{atom => non_neg_integer}
  def handover_stats(device \\ EMLX.default_device()) do
    ops = EMLX.handovers(device)
    count = ops |> Map.values() |> Enum.sum()
    report([:emlx, :handover, :stats], %{count: count}, %{device: device, ops: ops})
  end

  @doc """
  Sends `[:emlx, :cache, :stats]`, on compiled functions, and returns its measurements.

  ## Examples

      iex> EMLX.Telemetry.cache_stats() |> Map.keys() |> Enum.sort()
      [:evictions, :hits, :misses, :size]

  """
  @spec cache_stats() :: %{atom => non_neg_integer}
  def cache_stats, do: report([:emlx, :cache, :stats], EMLX.Cache.stats())

  @doc """
  Whether the events of the library are sent. Where they are not they cost nothing.

  ## Examples

      iex> EMLX.Telemetry.observe(true)
      :ok
      iex> EMLX.Telemetry.observe(false)
      :ok

  """
  @spec observe(boolean) :: :ok
  def observe(on?) when is_boolean(on?), do: EMLX.Observer.observe(on?)

  defp report(event, measurements, metadata \\ %{}) do
    :telemetry.execute(event, measurements, metadata)
    measurements
  end

  @doc false
  # As :telemetry.span/3, for functions that add nothing to the metadata: without
  # listeners this costs two look-ups.
  @spec span(atom, map, (-> result)) :: result when result: term
  def span(name, metadata, fun) do
    metadata = Map.put(metadata, :telemetry_span_context, make_ref())
    start = System.monotonic_time()
    # Cheaper than to ask the clock once more.
    times = %{monotonic_time: start, system_time: start + System.time_offset()}
    :telemetry.execute([:emlx, name, :start], times, metadata)

    try do
      fun.()
    catch
      kind, reason ->
        failure = %{kind: kind, reason: reason, stacktrace: __STACKTRACE__}
        :telemetry.execute([:emlx, name, :exception], since(start), Map.merge(metadata, failure))
        :erlang.raise(kind, reason, __STACKTRACE__)
    else
      result ->
        :telemetry.execute([:emlx, name, :stop], since(start), metadata)
        result
    end
  end

  defp since(start) do
    now = System.monotonic_time()
    %{duration: now - start, monotonic_time: now}
  end
end
