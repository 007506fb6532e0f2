# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.LivebookTest do
  # The cells of guides/models.livemd, in order, with small models of random weights for those that are
  # downloaded, and plots that are looked at as data.
  use ExUnit.Case, async: false

  @moduletag :bumblebee
  @moduletag timeout: 300_000

  defmodule Letters do
    @moduledoc false
    defstruct []

    def apply(%{}, texts) do
      rows = for text <- texts, do: text |> String.to_charlist() |> Enum.map(&rem(&1, 50))
      most = rows |> Enum.map(&length/1) |> Enum.max() |> min(16)
      pad = fn row, with -> row |> Enum.take(most) |> Kernel.++(with) |> Enum.take(most) end
      zeros = List.duplicate(0, most)

      %{
        "input_ids" => Nx.tensor(for(row <- rows, do: pad.(row, zeros))),
        "attention_mask" =>
          Nx.tensor(for(row <- rows, do: pad.(List.duplicate(1, length(row)), zeros)))
      }
    end

    def decode(%{}, tokens), do: Enum.join(tokens, " ")
    def id_to_token(%{}, id), do: "w#{id}"
  end

  defmodule Hub do
    @moduledoc false
    @sizes [
      vocab_size: 50,
      hidden_size: 128,
      intermediate_size: 128,
      num_blocks: 2,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      attention_head_size: 32,
      max_positions: 64
    ]

    @kinds [
      {"MiniLM", Bumblebee.Text.Bert, :base},
      {"distilbert", Bumblebee.Text.Distilbert, :for_sequence_classification},
      {"Qwen3", Bumblebee.Text.Qwen3, :for_causal_language_modeling}
    ]

    def load_model({:hf, name}, _options \\ []) do
      {_, module, architecture} = Enum.find(@kinds, fn {part, _, _} -> name =~ part end)
      spec = %{struct(module) | architecture: architecture}
      sizes = Enum.filter(@sizes, fn {key, _} -> Map.has_key?(spec, key) end)
      spec = Kernel.apply(Bumblebee, :configure, [spec, sizes])
      model = Kernel.apply(Bumblebee, :build_model, [spec])
      {init, _} = Axon.build(model)

      ids = %{
        "input_ids" => Nx.template({1, 4}, :s64),
        "attention_mask" => Nx.template({1, 4}, :s64)
      }

      {:ok, %{model: model, spec: spec, params: init.(ids, Axon.ModelState.empty())}}
    end

    def load_tokenizer({:hf, _name}), do: {:ok, %Letters{}}
    def load_generation_config({:hf, _name}), do: {:ok, %{eos_token_id: 1_000, bos_token_id: 0}}
  end

  defmodule Plot do
    @moduledoc false
    def new(options), do: %{options: options, data: nil, mark: nil, fields: %{}}
    def data_from_values(plot, values), do: %{plot | data: Enum.to_list(values)}
    def mark(plot, mark), do: %{plot | mark: mark}

    def encode_field(plot, channel, field, _options),
      do: put_in(plot.fields[channel], String.to_existing_atom(field))
  end

  @guide Path.expand("../../guides/models.livemd", __DIR__)

  test "the guide's cells run" do
    cells = Regex.scan(~r/^```elixir\n(.*?)^```/ms, File.read!(@guide), capture: :all_but_first)
    env = Code.env_for_eval(file: @guide)
    Nx.default_backend(EMLX.Backend)
    Nx.Defn.default_options(compiler: EMLX)

    ExUnit.CaptureIO.capture_io(fn ->
      {plots, _binding, _env} =
        Enum.reduce(cells, {[], [], env}, fn [cell], {plots, binding, env} ->
          quoted = cell |> Code.string_to_quoted!() |> Macro.prewalk(&here/1)
          {value, binding, env} = Code.eval_quoted_with_env(quoted, binding, env)
          {if(plot?(value), do: [value | plots], else: plots), binding, env}
        end)

      send(self(), {:plots, Enum.reverse(plots)})
    end)

    assert_received {:plots, plots}
    assert length(plots) == 5

    for plot <- plots do
      assert plot.data != []
      for point <- plot.data, {_, field} <- plot.fields, do: assert(Map.has_key?(point, field))
    end
  end

  defp plot?(value), do: match?(%{mark: mark, data: [_ | _]} when mark != nil, value)

  # What a cell gets from elsewhere it gets from here.
  defp here({{:., _, [{:__aliases__, _, [:Mix]}, :install]}, _, _}), do: :ok

  defp here({{:., meta, [{:__aliases__, _, [:Bumblebee]}, name]}, call, arguments})
       when name in [:load_model, :load_tokenizer, :load_generation_config],
       do: {{:., meta, [Hub, name]}, call, arguments}

  defp here({:__aliases__, _, [:VegaLite]}), do: Plot

  defp here({{:., _, [{:__aliases__, _, [module]}, name]}, _, _})
       when {module, name} in [{:Nx, :global_default_backend}],
       do: :ok

  defp here({{:., _, [{:__aliases__, _, [:Nx, :Defn]}, :global_default_options]}, _, _}), do: :ok
  defp here(other), do: other
end
