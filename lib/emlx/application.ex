# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Application do
  @moduledoc false
  use Application

  @impl true
  def start(_type, _arguments) do
    EMLX.Profiling.init_if_configured()

    Supervisor.start_link([EMLX.Cache, EMLX.Observer],
      strategy: :one_for_one,
      name: EMLX.Supervisor
    )
  end
end
