# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Cache do
  @moduledoc false
  # Compiled programs by key, at most `:compile_cache_max_items` of them; the one
  # used longest ago goes first. A program is compiled once: whoever asks first
  # is told to compile it, the others wait, and if that process dies the next
  # one takes over.
  #
  # A key may hold tensors that a closure has captured, and so their memory. What
  # was not used for `:compile_cache_ttl` milliseconds goes for that reason.
  #
  # What stands for large binaries in a key may be the same for different ones. These are kept
  # beside the value and compared; where they differ the key is looked up with another number.

  use GenServer

  require Logger

  alias EMLX.Key

  @default_max_items 512
  @default_ttl :timer.minutes(30)
  @counters [hits: 1, misses: 2, evictions: 3]
  @events [hits: :hit, misses: :miss, evictions: :evict]

  def start_link(_options), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc """
  How many programs are kept, and since the start: how often one was found, had to
  be compiled, and was dropped.
  """
  @spec stats() :: %{
          size: non_neg_integer,
          hits: non_neg_integer,
          misses: non_neg_integer,
          evictions: non_neg_integer
        }
  def stats do
    case :persistent_term.get(__MODULE__, nil) do
      nil ->
        %{size: 0, hits: 0, misses: 0, evictions: 0}

      counters ->
        for {name, i} <- @counters,
            into: %{size: :ets.info(__MODULE__, :size)},
            do: {name, :counters.get(counters, i)}
    end
  end

  @doc "Drops all programs that are kept. Those in use live on until their last user is gone."
  @spec clear() :: :ok
  def clear, do: GenServer.call(__MODULE__, :clear, :infinity)

  @doc """
  The value of a key and its large binaries, made by `fun` in the calling process when there
  is none.
  """
  @spec fetch(term, [binary], (-> value)) :: value when value: term
  def fetch(key, binaries \\ [], fun, number \\ 0) do
    EMLX.NIF.loaded()

    case find({key, number}, fn -> {binaries, fun.()} end) do
      {[], value} ->
        value

      {kept, value} ->
        if Key.same?(kept, binaries), do: value, else: fetch(key, binaries, fun, number + 1)
    end
  end

  defp find(key, fun) do
    case lookup(key) do
      {:ok, value} ->
        count(:hits)
        value

      :error ->
        # The application is not started, as in a script: then nothing is cached.
        if :ets.whereis(__MODULE__) == :undefined, do: fun.(), else: make(key, fun)
    end
  end

  defp lookup(key) do
    value = :ets.lookup_element(__MODULE__, key, 2)
    :ets.update_element(__MODULE__, key, {3, now()})
    {:ok, value}
  rescue
    ArgumentError -> :error
  end

  defp make(key, fun) do
    case GenServer.call(__MODULE__, {:claim, key}, :infinity) do
      {:ok, value} ->
        count(:hits)
        value

      {:make, claim} ->
        count(:misses)

        try do
          value = fun.()
          GenServer.call(__MODULE__, {:put, key, claim, value}, :infinity)
          value
        after
          GenServer.cast(__MODULE__, {:give_up, key, claim})
        end
    end
  end

  defp now, do: System.monotonic_time(:millisecond)

  # The events of EMLX.Telemetry.
  defp count(what, number \\ 1, metadata \\ %{}) do
    :counters.add(:persistent_term.get(__MODULE__), @counters[what], number)
    size = :ets.info(__MODULE__, :size)
    :telemetry.execute([:emlx, :cache, @events[what]], %{count: number, size: size}, metadata)
  end

  ## Server. `claims` holds, by key, the claim of the process that makes the
  ## value and the callers that wait for it. It hibernates after messages with
  ## keys and values, so that nothing of them stays in its garbage.

  @impl true
  def init(nil) do
    :persistent_term.put(__MODULE__, :counters.new(length(@counters), [:write_concurrency]))
    :ets.new(__MODULE__, [:named_table, :public, read_concurrency: true, write_concurrency: true])
    schedule_sweep()
    {:ok, %{}}
  end

  @impl true
  def handle_call({:claim, key}, {pid, _tag} = from, claims) do
    case {:ets.lookup(__MODULE__, key), claims} do
      {[{^key, value, _used}], _claims} ->
        {:reply, {:ok, value}, claims}

      {[], %{^key => %{pid: ^pid} = claim}} ->
        # The same process while it is making the value: it must not wait for itself.
        {:reply, {:make, claim.reference}, claims}

      {[], %{^key => claim}} ->
        {:noreply, %{claims | key => %{claim | waiting: [from | claim.waiting]}}}

      {[], _claims} ->
        {:noreply, grant(claims, key, from, [])}
    end
  end

  def handle_call(:clear, _from, claims) do
    :ets.delete_all_objects(__MODULE__)
    {:reply, :ok, claims, :hibernate}
  end

  def handle_call({:put, key, reference, value}, _from, claims) do
    :ets.insert(__MODULE__, {key, value, now()})
    evict()

    case claims do
      %{^key => %{reference: ^reference, waiting: waiting}} ->
        Process.demonitor(reference, [:flush])
        Enum.each(waiting, &GenServer.reply(&1, {:ok, value}))
        {:reply, :ok, Map.delete(claims, key), :hibernate}

      %{} ->
        {:reply, :ok, claims, :hibernate}
    end
  end

  @impl true
  def handle_cast({:give_up, key, reference}, claims),
    do: {:noreply, pass_on(claims, key, reference), :hibernate}

  @impl true
  def handle_info({:DOWN, reference, :process, _pid, _reason}, claims) do
    case Enum.find(claims, fn {_key, claim} -> claim.reference == reference end) do
      {key, _claim} -> {:noreply, pass_on(claims, key, reference)}
      nil -> {:noreply, claims}
    end
  end

  def handle_info(:sweep, claims) do
    sweep(ttl())
    schedule_sweep()
    {:noreply, claims}
  end

  def handle_info(_message, claims), do: {:noreply, claims}

  defp grant(claims, key, {pid, _tag} = from, waiting) do
    reference = Process.monitor(pid)
    GenServer.reply(from, {:make, reference})
    Map.put(claims, key, %{pid: pid, reference: reference, waiting: waiting})
  end

  # The value was not made. A claim that was fulfilled is no longer here.
  defp pass_on(claims, key, reference) do
    case claims do
      %{^key => %{reference: ^reference, waiting: waiting}} ->
        Process.demonitor(reference, [:flush])
        claims = Map.delete(claims, key)

        case Enum.reverse(waiting) do
          [] -> claims
          [next | rest] -> grant(claims, key, next, Enum.reverse(rest))
        end

      %{} ->
        claims
    end
  end

  defp evict do
    if :ets.info(__MODULE__, :size) > max_items() do
      oldest = fn {key, _value, used}, acc -> min(acc, {used, key}) end
      {_used, key} = :ets.foldl(oldest, {:infinity, nil}, __MODULE__)
      :ets.delete(__MODULE__, key)
      count(:evictions, 1, %{reason: :full})
      evict()
    end
  end

  defp max_items, do: setting(:compile_cache_max_items, @default_max_items)
  defp ttl, do: setting(:compile_cache_ttl, @default_ttl)

  # This process is everybody's: a wrong setting must not end it.
  defp setting(name, default) do
    case Application.get_env(:emlx, name, default) do
      number when is_integer(number) and number >= 0 ->
        number

      :infinity ->
        :infinity

      other ->
        Logger.warning(
          "config :emlx, #{name} must be a non-negative integer or :infinity, got: " <>
            "#{inspect(other)}; #{default} is used instead"
        )

        default
    end
  end

  @doc false
  def sweep(:infinity), do: :ok

  def sweep(milliseconds) do
    before = now() - milliseconds

    unused = [{{:_, :_, :"$1"}, [{:<, :"$1", before}], [true]}]
    dropped = :ets.select_delete(__MODULE__, unused)
    if dropped > 0, do: count(:evictions, dropped, %{reason: :unused})
    :ok
  end

  defp schedule_sweep do
    period = if ttl() == :infinity, do: @default_ttl, else: max(div(ttl(), 4), 1000)
    Process.send_after(self(), :sweep, period)
  end
end
