# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.Telemetry do
  @moduledoc """
  What generation reports through [telemetry](https://hexdocs.pm/telemetry). Times are milliseconds.

  `[:emlx_axon, :generate, :stop]` after each text, whoever asked for it:

    * `:time_to_first_token` - from the request on. A request that waits for a row of
      `EMLXAxon.Server` waits meanwhile; a function that was not compiled yet is
    * `:duration` - until the last token
    * `:tokens` - how many were drawn
    * `:tokens_per_second` - of those after the first
    * `:cache_used`, `:cache_length` - positions of the cache that are filled, and how many it has

  Its metadata are `:finish_reason`, which is `:stop`, `:length`, or, where the one who asked left or
  died, `:cancelled`, and `:server`, the process of `EMLXAxon.Server`, or nil.

  `[:emlx_axon, :server, :draw]` each time that a server has drawn some tokens for all rows:

    * `:duration`, and `:tokens` - of all rows together
    * `:rows`, `:slots` - rows that were taken, and how many there are
    * `:waiting` - requests that wait for a row

  Its metadata have the `:server`.

      :telemetry.attach("tokens", [:emlx_axon, :generate, :stop], &MyApp.told/4, nil)

      def told(_event, measured, _metadata, _config),
        do: IO.puts("\#{round(measured.tokens_per_second)} tokens a second")
  """

  @doc false
  # `text` has `:first` and `:duration` in milliseconds, `:tokens`, `:used` and `:room`.
  def generated(text, reason, server) do
    rest = max(text.duration - text.first, 1.0e-3)

    measurements = %{
      time_to_first_token: text.first,
      duration: text.duration,
      tokens: text.tokens,
      tokens_per_second: (text.tokens - 1) * 1000 / rest,
      cache_used: text.used,
      cache_length: text.room
    }

    metadata = %{finish_reason: reason, server: server}
    :telemetry.execute([:emlx_axon, :generate, :stop], measurements, metadata)
  end

  @doc false
  def drawn(measurements),
    do: :telemetry.execute([:emlx_axon, :server, :draw], measurements, %{server: self()})

  @doc false
  def now, do: System.monotonic_time(:microsecond)

  @doc false
  def since(started), do: (now() - started) / 1000
end
