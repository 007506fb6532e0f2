# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Debug do
  @moduledoc """
  Help in finding where a number stops being one.

  With `config :emlx, detect_non_finites: true`, or after
  `Application.put_env(:emlx, :detect_non_finites, true)`, NaN or an infinity raises
  in

    * the results of compiled functions, when they return;
    * the results of `Nx.dot/2` and `Nx.conv/3`, when they are called outside of
      `defn`;
    * any other tensor of `EMLX.Backend` when it is read through Nx, for example by
      `Nx.to_binary/1`, `Nx.to_number/1` or by printing it, and when it is given to
      `EMLX.eval/1`;
    * the tensors named by `assert_no_nan_inf!/2`.

  Other operations are not checked one by one: they are lazy, and what they give is
  computed, in one piece with what is made of it, when that is read. To see which of
  several operations it was, read in between.

  Checking computes at once what would have been fused, and takes its own time: it is
  for the search, not for production. A tensor that is meant to hold an infinity, as
  a mask may, raises like any other when it is read. Unlike in other releases of this
  name, the setting is read while the program runs, not when it is compiled.

  Indices out of bounds always raise, whatever `:enable_bounds_check` says.
  """

  @doc """
  Raises if a tensor, or one of a container, has NaN or an infinity, and returns it. A
  `{device, reference}` pair is checked as well. Does nothing where `:detect_non_finites` is not set.

  ## Examples

      iex> require EMLX.Debug
      iex> Application.put_env(:emlx, :detect_non_finites, true)
      iex> EMLX.Debug.assert_no_nan_inf!(Nx.tensor([1.0, :nan]), "loss")
      ** (EMLX.Error) loss has NaN: f32 {2}
      iex> Application.put_env(:emlx, :detect_non_finites, false)

  """
  defmacro assert_no_nan_inf!(container, name) do
    quote do
      container = unquote(container)
      if EMLX.Debug.enabled?(), do: EMLX.Debug.check!(container, unquote(name)), else: container
    end
  end

  @doc "Whether results are checked."
  @spec enabled?() :: boolean
  def enabled?, do: Application.get_env(:emlx, :detect_non_finites, false) == true

  @doc false
  @spec check!(container, term) :: container when container: term
  def check!({device, ref} = pair, name) when is_atom(device) and is_reference(ref) do
    check_one!(EMLX.Backend.to_nx(pair), name)
    pair
  end

  def check!(container, name) do
    container
    |> List.wrap()
    |> Nx.Defn.Composite.flatten_list()
    |> Enum.each(&check_one!(&1, name))

    container
  end

  defp check_one!(%Nx.Tensor{data: %Nx.Defn.Expr{}}, _name), do: :ok

  defp check_one!(%Nx.Tensor{type: {class, _}} = tensor, name) when class not in [:u, :s] do
    for {what, test} <- [{"NaN", &Nx.is_nan/1}, {"an infinity", &Nx.is_infinity/1}],
        tensor |> Nx.devectorize() |> test.() |> Nx.any() |> Nx.to_number() == 1 do
      raise EMLX.Error,
        kind: :non_finite,
        message: "#{name} has #{what}: #{Nx.Type.to_string(tensor.type)} #{inspect(tensor.shape)}"
    end
  end

  defp check_one!(_integers, _name), do: :ok
end
