# SPDX-License-Identifier: Apache-2.0
defmodule Mix.Tasks.Emlx.Doctor do
  @shortdoc "Says what EMLX finds on this machine"
  @moduledoc """
  Prints versions, devices, libraries and configuration, says what is missing and how
  to get it, and computes something.

      $ mix emlx.doctor

  Fails if something is missing.
  """

  use Mix.Task

  @signs [ok: "ok     ", note: "note   ", missing: "MISSING"]

  @impl true
  def run(_arguments) do
    Mix.Task.run("app.start")
    lines = EMLX.Doctor.lines()

    for {state, subject, text} <- lines,
        do: Mix.shell().info("#{@signs[state]} #{subject}: #{text}")

    missing = Enum.count(lines, &(elem(&1, 0) == :missing))
    if missing > 0, do: Mix.raise("#{missing} of the above must be mended before EMLX works")
  end
end
