# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.Server do
  @moduledoc """
  A process that gives text to many at once: their tokens are rows of the same products.

      children = [
        {EMLXAxon.Server, name: MyText, tokenizer: tokenizer, state: state, slots: 8}
      ]

      EMLXAxon.Server.run(MyText, "The capital of France is")
      MyText |> EMLXAxon.Server.stream("Once upon a time") |> Enum.each(&IO.write/1)

  There are `:slots` rows. A text that comes gets a free row, or waits for one; its prompt is read, and
  from then on its tokens are drawn together with those of the others, a few at a time. Where somebody
  who waits for text dies, its row is free with the next tokens.

  ## Options

    * `:tokenizer`, `:state` - as for `EMLXAxon.TextGeneration`
    * `:slots` - texts at the same time, 4
    * `:max_len` - tokens of a text with its prompt, 2048
    * `:chunk` - tokens that are drawn before anybody hears of them, 5
    * `:sampler`, `:temperature`, `:top_p`, `:seed` - as for `EMLXAxon.Qwen3.Generate.generate/3`
    * `:name` - of the process

  `run/3` and `stream/3` take `:max_new_tokens`, 100, and `run/3` a `:timeout`, `:infinity`.

  What it does is told as `EMLXAxon.Telemetry` says.
  """

  use GenServer

  alias EMLXAxon.{Decoder, Draw, Generate, Sampler, Telemetry, Tokenizer}

  @options [
    :name,
    :tokenizer,
    :state,
    slots: 4,
    max_len: 2048,
    chunk: 5,
    sampler: :greedy,
    temperature: 0.95,
    top_p: 0.9,
    seed: 42
  ]

  @doc "Starts the process."
  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(options) do
    options = Keyword.validate!(options, @options)
    for name <- [:slots, :max_len, :chunk], do: Generate.count!(options[name], name)

    Sampler.check!(options)
    GenServer.start_link(__MODULE__, options, Keyword.take(options, [:name]))
  end

  @doc "Text after a text: a map as of `EMLXAxon.TextGeneration.run/4`."
  @spec run(GenServer.server(), String.t(), keyword) :: map
  def run(server, text, options \\ []) when is_binary(text) do
    options = Keyword.validate!(options, max_new_tokens: 100, timeout: :infinity)
    request = ask(server, text, options[:max_new_tokens])
    {tokens, reason} = all(request, [], options[:timeout])
    text = Tokenizer.decode(request.tokenizer, tokens)
    %{results: [%{generated_text: text, num_tokens: length(tokens)}], finish_reason: reason}
  end

  defp all(request, tokens, timeout) do
    case next(request, timeout) do
      {:tokens, more, nil} -> all(request, tokens ++ more, timeout)
      {:tokens, more, reason} -> {tokens ++ more, reason}
    end
  end

  @doc "The text as it comes, in pieces: a stream that is read once, by the process that asked."
  @spec stream(GenServer.server(), String.t(), keyword) :: Enumerable.t()
  def stream(server, text, options \\ []) when is_binary(text) do
    options = Keyword.validate!(options, max_new_tokens: 100)

    Stream.resource(
      fn -> ask(server, text, options[:max_new_tokens]) end,
      fn
        :done ->
          {:halt, :done}

        request ->
          {:tokens, tokens, reason} = next(request, :infinity)
          {[Tokenizer.decode(request.tokenizer, tokens)], if(reason, do: :done, else: request)}
      end,
      &leave(server, &1)
    )
  end

  defp leave(_server, :done), do: :ok
  defp leave(server, request), do: GenServer.cast(server, {:leave, request.monitor})

  # The monitor is the request's name, so that an answer and the server's end are told apart.
  defp ask(server, text, count) do
    Generate.count!(count, :max_new_tokens)
    tokenizer = GenServer.call(server, :tokenizer, :infinity)
    ids = Tokenizer.encode(tokenizer, text)
    monitor = Process.monitor(GenServer.whereis(server))

    case GenServer.call(server, {:ask, self(), monitor, ids, count}, :infinity) do
      :ok ->
        %{monitor: monitor, tokenizer: tokenizer}

      {:error, text} ->
        Process.demonitor(monitor, [:flush])
        raise ArgumentError, text
    end
  end

  defp next(%{monitor: monitor}, timeout) do
    receive do
      {^monitor, {:tokens, _, reason} = answer} ->
        if reason, do: Process.demonitor(monitor, [:flush])
        answer

      {:DOWN, ^monitor, _, _, reason} ->
        exit({reason, {__MODULE__, :next, []}})
    after
      timeout -> exit({:timeout, {__MODULE__, :next, []}})
    end
  end

  ## The process

  @impl true
  def init(options) do
    state = options[:state]
    model = Decoder.model(state)
    slots = options[:slots]

    {:ok,
     %{
       tokenizer: options[:tokenizer],
       options: options,
       model: model,
       config: state.config,
       backend: Decoder.backend(model),
       defn_options: [],
       cache: Generate.new_cache(state, options[:max_len], slots),
       key: Nx.Random.key(options[:seed]),
       stop: Generate.stop_tokens(state.config),
       rows: Map.new(0..(slots - 1), &{&1, nil}),
       waiting: :queue.new()
     }}
  end

  @impl true
  def handle_call(:tokenizer, _from, server), do: {:reply, server.tokenizer, server}

  def handle_call({:ask, pid, name, ids, count}, _from, server) do
    prompt = Nx.axis_size(ids, 1)
    room = server.options[:max_len] - prompt + 1

    if room > 0 do
      request = %{
        pid: pid,
        name: name,
        ids: ids,
        left: min(count, room),
        watch: Process.monitor(pid),
        token: 0,
        offset: prompt,
        tokens: 0,
        asked: Telemetry.now(),
        first: nil
      }

      {:reply, :ok, %{server | waiting: :queue.in(request, server.waiting)}, {:continue, :go}}
    else
      text = "the prompt has #{prompt} tokens, and a text may have #{server.options[:max_len]}"
      {:reply, {:error, text}, server}
    end
  end

  @impl true
  def handle_cast({:leave, name}, server), do: {:noreply, forget(server, &(&1.name == name))}

  @impl true
  def handle_info({:DOWN, watch, :process, _, _}, server),
    do: {:noreply, forget(server, &(&1.watch == watch))}

  def handle_info(:go, server), do: {:noreply, server, {:continue, :go}}
  def handle_info(_other, server), do: {:noreply, server}

  @impl true
  def handle_continue(:go, server) do
    server = server |> seat() |> draw()
    # Others are heard between two chunks.
    if busy?(server), do: send(self(), :go)
    {:noreply, server}
  end

  defp busy?(server), do: Enum.any?(server.rows, fn {_, request} -> request != nil end)

  defp forget(server, who) do
    for {_, r} <- server.rows, r && who.(r), do: report(server, r, :cancelled)
    rows = Map.new(server.rows, fn {row, r} -> {row, if(r && who.(r), do: nil, else: r)} end)
    %{server | rows: rows, waiting: :queue.filter(&(not who.(&1)), server.waiting)}
  end

  ## Rows

  # Free rows go to those that wait; the first token of each is heard at once.
  defp seat(server) do
    free = for {row, nil} <- Enum.sort(server.rows), do: row

    case {free, :queue.out(server.waiting)} do
      {[row | _], {{:value, request}, waiting}} ->
        %{server | waiting: waiting} |> admit(row, request) |> seat()

      _ ->
        server
    end
  end

  defp admit(server, row, request) do
    {chance, sampler} = {chance(server), server.options[:sampler]}

    {token, key, cache} =
      Draw.first(server, &Decoder.admit/7, row, request.ids, server.key, chance, sampler)

    heard(%{server | key: key, cache: cache}, row, request, [token], 0)
  end

  defp draw(server) do
    if busy?(server), do: draw_all(server), else: server
  end

  defp draw_all(server) do
    started = Telemetry.now()
    rows = for {_, request} <- Enum.sort(server.rows), do: request
    seated = Enum.reject(rows, &is_nil/1)
    count = min(server.options[:chunk], seated |> Enum.map(& &1.left) |> Enum.min())

    settings = [config: server.config, sampler: server.options[:sampler], stop: server.stop]
    of = fn key, type -> Nx.tensor(for(r <- rows, do: if(r, do: r[key], else: 0)), type: type) end
    done = Nx.tensor(for(r <- rows, do: if(r, do: 0, else: 1)), type: :u8)
    at = {of.(:token, :s32), of.(:offset, :s32), server.key, done}

    {tokens, {_, _, key, _}, cache} =
      Draw.tokens(server, server.cache, at, chance(server), settings, count)

    server = %{server | key: key, cache: cache}
    tell(server, seated, tokens, Telemetry.since(started))

    for {request, row, drawn} <- Enum.zip([rows, 0..(length(rows) - 1), tokens]),
        request != nil,
        reduce: server do
      server ->
        heard(server, row, request, drawn, length(drawn))
    end
  end

  # Tells who asked, who keeps the row unless that was the end.
  defp heard(server, row, request, tokens, moved) do
    last = List.last(tokens)
    left = request.left - length(tokens)

    reason =
      cond do
        last in server.stop -> :stop
        left == 0 -> :length
        true -> nil
      end

    send(request.pid, {request.name, {:tokens, tokens, reason}})

    request = %{
      request
      | token: last,
        left: left,
        offset: request.offset + moved,
        tokens: request.tokens + length(tokens),
        first: request.first || Telemetry.since(request.asked)
    }

    if reason do
      Process.demonitor(request.watch, [:flush])
      report(server, request, reason)
    end

    %{server | rows: Map.put(server.rows, row, if(reason, do: nil, else: request))}
  end

  defp report(server, request, reason) do
    text = %{
      first: request.first,
      duration: Telemetry.since(request.asked),
      tokens: request.tokens,
      used: request.offset,
      room: Generate.room(server.cache)
    }

    Telemetry.generated(text, reason, self())
  end

  # Rows that nobody has draw nothing.
  defp tell(server, seated, tokens, duration) do
    Telemetry.drawn(%{
      duration: duration,
      tokens: tokens |> Enum.map(&length/1) |> Enum.sum(),
      rows: length(seated),
      slots: map_size(server.rows),
      waiting: :queue.len(server.waiting)
    })
  end

  defp chance(server), do: {server.options[:temperature], server.options[:top_p]}
end
