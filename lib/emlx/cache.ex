# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Cache do
  @moduledoc false
  # Compiled programs by key, at most `:compile_cache_max_items` of them; the one
  # used longest ago goes first. A program is compiled once: whoever asks first
  # is told to compile it, the others wait, and if that process dies the next
  # one takes over.

  use GenServer

  @default_max_items 512

  def start_link(_options), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "The value of a key, made by `fun` in the calling process when there is none."
  @spec fetch(term, (-> value)) :: value when value: term
  def fetch(key, fun) do
    case lookup(key) do
      {:ok, value} -> value
      :error -> make(key, fun)
      :not_running -> fun.()
    end
  end

  defp lookup(key) do
    case :ets.lookup(__MODULE__, key) do
      [{^key, value, _used}] ->
        :ets.update_element(__MODULE__, key, {3, now()})
        {:ok, value}

      [] ->
        :error
    end
  rescue
    # The application is not started, as in a script: then nothing is cached.
    ArgumentError -> :not_running
  end

  defp make(key, fun) do
    case GenServer.call(__MODULE__, {:claim, key}, :infinity) do
      {:ok, value} ->
        value

      {:make, claim} ->
        try do
          value = fun.()
          GenServer.call(__MODULE__, {:put, key, claim, value}, :infinity)
          value
        after
          GenServer.cast(__MODULE__, {:give_up, key, claim})
        end
    end
  end

  defp now, do: System.monotonic_time()

  ## Server. `claims` holds, by key, the claim of the process that makes the
  ## value and the callers that wait for it.

  @impl true
  def init(nil) do
    :ets.new(__MODULE__, [:named_table, :public, read_concurrency: true, write_concurrency: true])
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

  def handle_call({:put, key, reference, value}, _from, claims) do
    :ets.insert(__MODULE__, {key, value, now()})
    evict()

    case claims do
      %{^key => %{reference: ^reference, waiting: waiting}} ->
        Process.demonitor(reference, [:flush])
        Enum.each(waiting, &GenServer.reply(&1, {:ok, value}))
        {:reply, :ok, Map.delete(claims, key)}

      %{} ->
        {:reply, :ok, claims}
    end
  end

  @impl true
  def handle_cast({:give_up, key, reference}, claims),
    do: {:noreply, pass_on(claims, key, reference)}

  @impl true
  def handle_info({:DOWN, reference, :process, _pid, _reason}, claims) do
    case Enum.find(claims, fn {_key, claim} -> claim.reference == reference end) do
      {key, _claim} -> {:noreply, pass_on(claims, key, reference)}
      nil -> {:noreply, claims}
    end
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
    limit = Application.get_env(:emlx, :compile_cache_max_items, @default_max_items)

    if :ets.info(__MODULE__, :size) > limit do
      oldest = fn {key, _value, used}, acc -> min(acc, {used, key}) end
      {_used, key} = :ets.foldl(oldest, {:infinity, nil}, __MODULE__)
      :ets.delete(__MODULE__, key)
    end
  end
end
