# SPDX-License-Identifier: Apache-2.0
defmodule Recorder.Store do
  @moduledoc """
  The cases recorded so far, each once, and the state of the recording.

  A case is a map with `:op`, `:attrs` (name to JSON value), `:type`, `:inputs` and `:outputs`
  (lists of `{type, shape, bytes}` as they are stored), `:class`, `:origin` and, if there is one, a
  `:decided` reason or the error that it `:fails` with.
  """

  @table __MODULE__

  def start do
    :ets.new(@table, [:named_table, :public, :set, write_concurrency: true])
    :ok
  end

  @doc "Runs a function whose operations are recorded under an origin, with a limit on sizes."
  def recording(origin, options, fun) do
    :persistent_term.put(@table, {origin, Keyword.fetch!(options, :most_elements)})
    fun.()
  after
    :persistent_term.put(@table, nil)
  end

  @doc "The origin and the most elements of a tensor, or nil when nothing is to be recorded."
  def state do
    if Process.get(@table) == :paused, do: nil, else: :persistent_term.get(@table, nil)
  end

  @doc "As `state/0`, also while paused."
  def state!, do: :persistent_term.get(@table)

  @doc "Runs a function whose operations are not recorded."
  def paused(fun) do
    before = Process.put(@table, :paused)

    try do
      fun.()
    after
      if before, do: Process.put(@table, before), else: Process.delete(@table)
    end
  end

  def key(op, attrs, inputs, type),
    do: :erlang.md5(:erlang.term_to_binary({op, attrs, inputs, type}, [:deterministic]))

  def member?(key), do: :ets.member(@table, {:case, key})

  def put(key, %{} = recorded), do: :ets.insert_new(@table, {{:case, key}, recorded})

  @doc """
  Adds a run to a program, or the program with it. Arguments as of `Recorder.Archive.encode/3`.
  No new program is added beyond a number of them.
  """
  def put_program(name, metadata, entries, recorded, most) do
    known? = :ets.member(@table, {:program, name})

    count = :ets.select_count(@table, [{{{:program, :_}, :_}, [], [true]}])

    if known? or count < most do
      :ets.insert_new(@table, {{:program, name}, {metadata, entries}})
      key = :erlang.md5(:erlang.term_to_binary(recorded.inputs))
      :ets.insert_new(@table, {{:run, name, key}, recorded})
    end
  end

  @doc "The programs: name, metadata, arrays and runs."
  def programs do
    for [name, {metadata, entries}] <- Enum.sort(:ets.match(@table, {{:program, :"$1"}, :"$2"})) do
      runs = :ets.match(@table, {{:run, name, :"$1"}, :"$2"})
      {name, metadata, entries, for([_key, run] <- Enum.sort(runs), do: run)}
    end
  end

  @doc "Counts something worth a line at the end."
  def note(what), do: :ets.update_counter(@table, {:note, what}, 1, {{:note, what}, 0})

  def notes, do: @table |> :ets.match({{:note, :"$1"}, :"$2"}) |> Enum.sort()

  # From one origin other than the generator, an op keeps this many cases; the tests of linear
  # algebra alone make tens of thousands. Keys are hashes, so the choice is fair and stays.
  @most_of_an_origin 250

  @doc "The cases of each op, in an order that depends on the cases only."
  def by_op do
    @table
    |> :ets.match({{:case, :"$1"}, :"$2"})
    |> Enum.map(&List.to_tuple/1)
    |> Enum.group_by(fn {_key, recorded} -> {recorded.op, recorded.origin} end)
    |> Enum.flat_map(fn {{_op, origin}, cases} -> choose(origin, Enum.sort(cases)) end)
    |> Enum.sort_by(fn {key, recorded} -> {order(recorded), key} end)
    |> Enum.map(&elem(&1, 1))
    |> Enum.group_by(& &1.op)
    |> Enum.sort()
  end

  defp choose("generator", cases), do: cases
  defp choose(_origin, cases), do: Enum.take(cases, @most_of_an_origin)

  # Similar cases lie together, which compresses better.
  defp order(recorded) do
    signatures = for {type, shape, _bytes} <- recorded.inputs, do: {type, shape}
    {recorded.origin, recorded.type, signatures, recorded.attrs}
  end
end
