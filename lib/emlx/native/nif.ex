# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.NIF do
  @moduledoc false
  # The native functions, one clause each. They return `{:ok, value}`, or
  # `{:error, kind, message}`. Those that take a reference last may return
  # `:wait`: then the result comes as the message `{reference, result}`. Those that
  # compute may return `:pressure`: call memory_relieve/2, collect garbage, wait for the answer, and
  # try again with true.
  # Nothing here needs Nx.

  @on_load :load

  functions = [
    version: 0,
    ops: 0,
    devices: 0,
    devices_missing: 0,
    device_open: 2,
    device_describe: 1,
    device_host_memory: 1,
    device_reset: 2,
    device_address: 2,
    device_export: 2,
    device_memory_open: 3,
    device_capture: 3,
    handovers: 1,
    refuse_handovers: 1,
    observe: 1,
    memory_info: 0,
    memory_set_limit: 1,
    memory_set_cache_limit: 1,
    memory_clear_cache: 0,
    memory_reset_peak: 0,
    device_memory_info: 1,
    device_memory_set_limit: 2,
    device_memory_set_cache_limit: 2,
    device_memory_clear_cache: 1,
    device_memory_reset_peak: 1,
    memory_relieve: 2,
    from_binary: 5,
    to_binary: 3,
    deallocate: 1,
    tensor_copy: 3,
    tensor_info: 1,
    tensor_type: 1,
    tensor_address: 1,
    from_address: 5,
    binary_address: 1,
    shm_write: 3,
    shm_read: 4,
    shm_unlink: 1,
    apply: 5,
    eval: 4,
    program_compile: 3,
    program_save: 3,
    program_load: 3,
    program_info: 1,
    program_run: 5,
    program_resume: 4,
    program_drop: 1,
    archive_read: 3,
    queue_new: 1,
    queue_sync: 2
  ]

  for {name, arity} <- functions do
    arguments = Macro.generate_arguments(arity, __MODULE__)

    def unquote(name)(unquote_splicing(arguments)) do
      _ = unquote(arguments)
      :erlang.nif_error(not_loaded())
    end
  end

  @doc false
  # Calling it loads the module, which forgets what an earlier load has made.
  def loaded, do: :ok

  @doc false
  def load do
    path = path()

    case :erlang.load_nif(String.to_charlist(path), path <> ".so") do
      :ok -> forget_resources()
      # Loading the module must not fail: its functions then say what to do.
      {:error, reason} -> :persistent_term.put(__MODULE__, words_for(reason))
    end
  end

  # What an earlier load of this module has made is of no use to the functions of this one: devices
  # are opened and functions compiled anew.
  defp forget_resources do
    for {{EMLX.Native, _} = key, _device} <- :persistent_term.get(),
        do: :persistent_term.erase(key)

    if :ets.whereis(EMLX.Cache) != :undefined, do: :ets.delete_all_objects(EMLX.Cache)
    :ok
  end

  # The numbers are those of nif.c.
  defp words_for({:load, text}) do
    case Regex.run(~r/\((\d)\)/, List.to_string(text)) do
      [_, "1"] -> "there is no memory for it"
      [_, "2"] -> "the system starts no more threads for it"
      _other -> List.to_string(text)
    end
  end

  defp words_for({_reason, text}), do: List.to_string(text)

  defp path do
    case :code.priv_dir(:emlx) do
      {:error, :bad_name} -> Path.expand("priv/emlx_nif")
      directory -> Path.join(List.to_string(directory), "emlx_nif")
    end
  end

  defp not_loaded do
    reason = :persistent_term.get(__MODULE__, "not attempted")

    %EMLX.Error{
      kind: :not_loaded,
      message:
        "the native library of EMLX could not be loaded (#{reason}); " <>
          "run `mix compile`, or `make` in the directory of EMLX, to build it; if a library that it " <>
          "needs is missing, install that (OpenBLAS, jansson)"
    }
  end
end
