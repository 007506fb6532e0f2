# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Native do
  @moduledoc false
  # The native functions as the rest of EMLX wants them: they raise instead of
  # returning errors, and they wait for the message when one is to come.

  alias EMLX.{Device, Error, NIF}

  # The reference is made where it is received, so that the receive skips all
  # older messages.
  defmacrop await(reference, call) do
    quote do
      unquote(reference) = make_ref()

      case unquote(call) do
        :wait ->
          receive do
            {^unquote(reference), result} -> result
          end

        result ->
          result
      end
    end
  end

  # The process key under which EMLX.CommandQueue keeps the queue in use.
  @queue_key :emlx_command_queue

  ## Devices

  def device(name) when is_atom(name) do
    NIF.loaded()

    case :persistent_term.get({__MODULE__, name}, nil) do
      nil -> open_device(name)
      device -> device
    end
  end

  def device(other), do: [device: other] |> Device.chosen() |> device()

  # The settings that the library keeps are made with the first device.
  defp open_device(name) do
    native_name = Device.native_name(name)
    :ok = NIF.refuse_handovers(Device.refuses_handovers?())
    device = unwrap(await(reference, NIF.device_open(native_name, reference)))
    :persistent_term.put({__MODULE__, name}, device)
    device
  end

  # An empty path ends a capture.
  def capture(device, path), do: unwrap(await(ref, NIF.device_capture(device, path, ref)))

  def handovers(device), do: unwrap(NIF.handovers(device))

  ## Tensors

  def from_binary(device, type, shape, binary) do
    fn _ -> await(ref, NIF.from_binary(device, type, shape, binary, ref)) end
    |> with_memory()
    |> unwrap()
  end

  # `eval` computes the tensor where that has not been done yet.
  def to_binary(tensor, bytes, eval \\ &eval/1) do
    case await(ref, NIF.to_binary(tensor, bytes, ref)) do
      :pending ->
        eval.([tensor])
        unwrap(await(ref, NIF.to_binary(tensor, bytes, ref)))

      result ->
        unwrap(result)
    end
  end

  def tensor_info(tensor), do: unwrap(NIF.tensor_info(tensor))
  def type(tensor), do: unwrap(NIF.tensor_type(tensor))

  def address(tensor) do
    eval([tensor])
    unwrap(NIF.tensor_address(tensor))
  end

  def from_address(device, type, shape, address, bytes),
    do: unwrap(NIF.from_address(device, type, shape, address, bytes))

  # Memory of a device that the host does not read.
  def host_memory?(device), do: NIF.device_host_memory(device)

  def device_address(tensor) do
    eval([tensor])
    unwrap(await(reference, NIF.device_address(tensor, reference)))
  end

  def device_export(tensor) do
    eval([tensor])
    unwrap(await(reference, NIF.device_export(tensor, reference)))
  end

  # At an address, an integer, or behind a handle, a binary.
  def device_memory_open(device, type, shape, place),
    do: unwrap(await(ref, NIF.device_memory_open(device, {type, shape, place}, ref)))

  def reset(device), do: unwrap(await(reference, NIF.device_reset(device, reference)))

  def shm_write(tensor, name, permissions) do
    eval([tensor])
    unwrap(await(reference, NIF.shm_write({tensor, permissions}, name, reference)))
  end

  def shm_read(device, type, shape, name) do
    fn _ -> await(reference, NIF.shm_read(device, {type, shape}, name, reference)) end
    |> with_memory()
    |> unwrap()
  end

  def shm_unlink(name), do: unwrap(NIF.shm_unlink(name))
  # To another device; on its own it is the same tensor.
  def copy(tensor, device) do
    fn _ -> await(reference, NIF.tensor_copy(tensor, device, reference)) end
    |> with_memory()
    |> unwrap()
  end

  def deallocate(tensor), do: unwrap(NIF.deallocate(tensor))

  def apply(op, device, operands, attributes, type) do
    case NIF.apply(op, device, operands, attributes, type) do
      {:ok, tensor} ->
        tensor

      # More is being computed than can be started; a failure shows when the
      # tensor is read.
      {:busy, tensors} ->
        list = if is_tuple(tensors), do: Tuple.to_list(tensors), else: [tensors]
        _ = with_memory(&try_eval(list, &1))
        tensors

      {:error, kind, message} ->
        raise_in_nx_words(kind, message, op)
    end
  end

  # Where Nx has words for numbers that an operation does not take, they come without the
  # operation, or as its library of complex numbers has them.
  defp raise_in_nx_words({kind, fault, cause}, _message, _op) when fault in [:index, :shift],
    do: Error.raise_as(kind, cause)

  defp raise_in_nx_words({kind, :complex, _cause}, _message, op),
    do: Error.raise_as(kind, "Complex.#{op} only accepts real numbers as arguments")

  defp raise_in_nx_words(kind, message, _op), do: Error.raise_as(kind, message)

  def eval(tensors), do: unwrap(with_memory(&try_eval(tensors, &1)))

  defp try_eval(tensors, collected?),
    do: await(reference, NIF.eval(tensors, queue(), collected?, reference))

  defp queue do
    case Process.get(@queue_key) do
      nil -> nil
      {ref, _device} -> ref
    end
  end

  ## Queues

  def queue_new(device), do: unwrap(NIF.queue_new(device))
  def queue_sync(queue), do: unwrap(await(reference, NIF.queue_sync(queue, reference)))

  ## Programs

  def compile(device, block) do
    unwrap(with_memory(fn _ -> await(ref, NIF.program_compile(device, block, ref)) end))
  end

  def save(block, path), do: unwrap(await(ref, NIF.program_save(block, path, ref)))

  def load(device, path),
    do: unwrap(with_memory(fn _ -> await(ref, NIF.program_load(device, path, ref)) end))

  def archive_read(device, path),
    do: unwrap(with_memory(fn _ -> await(ref, NIF.archive_read(device, path, ref)) end))

  def program_info(program), do: unwrap(NIF.program_info(program))

  def run(program, inputs),
    do: run(program, inputs, queue(), fn _number, _operands -> raise "a file has no calls" end)

  # Where the program calls, `answer` is called with the number of the call and its
  # operands, and gives the call's results.
  def run(program, inputs, queue, answer) do
    # Nothing was called yet when this is out of memory, so that it may be repeated.
    (&await(ref, NIF.program_run(program, inputs, queue, &1, ref)))
    |> with_memory(inputs)
    |> to_end(queue, answer)
    |> unwrap()
  end

  # As above for several runs at the same time.
  def run_all(program, many_inputs, queue, answer) do
    started =
      for inputs <- many_inputs do
        reference = make_ref()
        {reference, NIF.program_run(program, inputs, queue, false, reference), inputs}
      end

    # All are waited for, so that after an error no messages are left.
    {results, failure} =
      Enum.map_reduce(started, nil, fn {reference, result, inputs}, failure ->
        again = &await(ref, NIF.program_run(program, inputs, queue, &1, ref))
        result = check_memory(outcome(reference, result), again, inputs)
        settle(result, queue, answer, failure)
      end)

    with {kind, reason, stacktrace} <- failure, do: :erlang.raise(kind, reason, stacktrace)
    Enum.map(results, &unwrap/1)
  end

  defp settle(result, queue, answer, nil) do
    {to_end(result, queue, answer), nil}
  catch
    kind, reason -> {nil, {kind, reason, __STACKTRACE__}}
  end

  defp settle({:call, run, _number, _operands}, _queue, _answer, failure) do
    NIF.program_drop(run)
    {nil, failure}
  end

  defp settle(_result, _queue, _answer, failure), do: {nil, failure}

  defp outcome(reference, :wait) do
    receive do
      {^reference, result} -> result
    end
  end

  defp outcome(_reference, result), do: result

  defp to_end({:call, run, number, operands}, queue, answer) do
    result = await(reference, resume(run, number, operands, queue, answer, reference))
    unless match?({:call, _, _, _}, result), do: NIF.program_drop(run)
    to_end(result, queue, answer)
  end

  defp to_end(result, _queue, _answer), do: result

  # When the callback fails, the run is given up now and not with the garbage.
  defp resume(run, number, operands, queue, answer, reference) do
    NIF.program_resume(run, answer.(number, operands), queue, reference)
  catch
    kind, reason ->
      NIF.program_drop(run)
      :erlang.raise(kind, reason, __STACKTRACE__)
  end

  ## Memory

  def memory_info(device), do: unwrap(NIF.device_memory_info(device))
  def set_memory_limit(device, bytes), do: unwrap(NIF.device_memory_set_limit(device, bytes))
  def set_cache_limit(device, bytes), do: unwrap(NIF.device_memory_set_cache_limit(device, bytes))
  def clear_cache(device), do: unwrap(NIF.device_memory_clear_cache(device))
  def reset_peak_memory(device), do: unwrap(NIF.device_memory_reset_peak(device))

  ## Results

  # Memory that only dead handles of this process hold is given back from time to
  # time, and before an allocation is reported as failed; then all processes are
  # asked, and what is pending is computed where that frees more than it takes. The
  # function is told whether that has been done.
  defp with_memory(fun, inputs \\ []), do: check_memory(fun.(false), fun, inputs)

  # What a run has been given is gone, so that it cannot be repeated.
  defp check_memory(result, fun, inputs) do
    if Enum.any?(inputs, &is_tuple/1),
      do: check_pressure(result, fun),
      else: check_memory(result, fun)
  end

  defp check_pressure(:pressure, fun) do
    relieve(false)
    fun.(true)
  end

  defp check_pressure(result, _fun), do: result

  defp check_memory(:pressure, fun) do
    relieve(false)
    check_memory(fun.(true), fun)
  end

  defp check_memory({:error, :out_of_memory, _message}, fun) do
    relieve(true)

    with {:error, :out_of_memory, _message} <- fun.(true) do
      for pid <- Process.list(), pid != self(), do: :erlang.garbage_collect(pid)
      relieve(true)
      fun.(true)
    end
  end

  defp check_memory(result, _fun), do: result

  # Destructors run some time after the collection: the answer comes when they have.
  defp relieve(compute?) do
    reference = make_ref()

    if NIF.memory_relieve(compute?, reference) == :wait do
      :erlang.garbage_collect()

      receive do
        {^reference, :ok} -> :ok
      end
    end
  end

  defp unwrap({:ok, value}), do: value
  defp unwrap(:ok), do: :ok
  defp unwrap(:already_deallocated), do: :already_deallocated
  defp unwrap({:error, kind, message}), do: Error.raise_as(kind, message)
end
