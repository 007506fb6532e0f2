# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Suite.Report do
  @moduledoc """
  An ExUnit formatter that knows which tests fail. Prints those that fail and are not known, and
  keeps what became of each. Of a second run, which is `quiet`, it prints nothing.
  """
  use GenServer

  alias ExUnit.Formatter

  @doc "Runs tests: how many modules failed as a whole, and what became of each test, by name."
  @spec run(keyword, [module]) :: {non_neg_integer, %{String.t() => :passed | :failed}}
  def run(options, modules \\ []) do
    ExUnit.configure([formatters: [__MODULE__]] ++ options)
    ExUnit.run(modules)
    %{failed: failed, seen: seen} = Application.fetch_env!(:emlx, __MODULE__)
    {failed, seen}
  end

  @impl true
  def init(options) do
    state = Map.new(Keyword.take(options, [:known, :quiet]))
    {:ok, Map.merge(%{known: %{}, quiet: false, seen: %{}, failed: 0}, state)}
  end

  @impl true
  def handle_cast({:test_finished, test}, state), do: {:noreply, finished(test, state)}

  def handle_cast({:module_finished, %{state: {:failed, failures}} = module}, state) do
    say(state, fn number ->
      Formatter.format_test_all_failure(module, failures, number, 100, &plain/2)
    end)

    {:noreply, %{state | failed: state.failed + 1}}
  end

  def handle_cast({:suite_finished, _times}, state) do
    Application.put_env(:emlx, __MODULE__, state)
    {:noreply, state}
  end

  def handle_cast(_event, state), do: {:noreply, state}

  defp finished(%{state: nil} = test, state), do: see(state, name(test), :passed)

  defp finished(%{state: {:failed, reasons}} = test, state) do
    name = name(test)

    unless is_map_key(state.known, name) do
      say(state, fn number ->
        Formatter.format_test_failure(test, reasons, number, 100, &plain/2) <>
          "     to list it: #{name}"
      end)
    end

    see(state, name, :failed)
  end

  defp finished(_left_out, state), do: state

  defp see(state, name, result), do: put_in(state.seen[name], result)
  defp say(%{quiet: true}, _text), do: :ok
  defp say(state, text), do: IO.puts(text.(map_size(state.seen) + 1))
  defp plain(_key, text), do: text

  defp name(%{name: name, tags: %{file: file}}), do: "#{Path.relative_to_cwd(file)} | #{name}"
end
