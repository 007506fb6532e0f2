# Trains a neural network on handwritten digits, in plain Nx, and reports how it does on images it
# has not seen.
#
#     mix run examples/digits.exs                      # train and report
#     mix run examples/digits.exs --export examples    # write the programs that digits.c drives
#
# There is nothing of EMLX below but the choice of backend and compiler.

defmodule Digits do
  import Nx.Defn

  @hidden 128
  @batch 32
  @rate 0.002

  # Parameters with Adam's two moments beside them, and the data shuffled and split in two.
  defn setup(table) do
    key = Nx.Random.key(42)
    {table, key} = Nx.Random.shuffle(key, table)
    {first, key} = Nx.Random.normal(key, 0.0, 0.125, shape: {64, @hidden})
    {second, key} = Nx.Random.normal(key, 0.0, 0.09, shape: {@hidden, 10})

    weights = {first, Nx.broadcast(0.0, {@hidden}), second, Nx.broadcast(0.0, {10})}
    held_out = div(Nx.axis_size(table, 0), 5)
    state = {weights, zeros(weights), zeros(weights), Nx.tensor(0), key}
    {state, table[held_out..-1//1], table[0..(held_out - 1)//1]}
  end

  # One pass over the training images, in a new random order, in mini-batches.
  defn epoch({weights, mean, square, step, key}, table) do
    {table, key} = Nx.Random.shuffle(key, table)
    batches = div(Nx.axis_size(table, 0), @batch)

    {_, _, weights, mean, square, step, loss} =
      while {i = 0, table, weights, mean, square, step, loss = 0.0}, i < batches do
        batch = Nx.slice_along_axis(table, i * @batch, @batch, axis: 0)
        {now, gradient} = value_and_grad(weights, &loss(&1, batch))
        {weights, mean, square} = adam(weights, gradient, mean, square, step + 1)
        {i + 1, table, weights, mean, square, step + 1, loss + now}
      end

    {{weights, mean, square, step, key}, loss / batches}
  end

  # The digit that each image shows, beside the one it is meant to show.
  defn predict({weights, _, _, _, _}, table) do
    {Nx.argmax(logits(weights, images(table)), axis: 1), labels(table)}
  end

  defnp logits({w1, b1, w2, b2}, images) do
    images |> Nx.dot(w1) |> Nx.add(b1) |> Nx.max(0) |> Nx.dot(w2) |> Nx.add(b2)
  end

  defnp loss(weights, table) do
    logits = logits(weights, images(table))
    wanted = Nx.equal(Nx.new_axis(labels(table), 1), Nx.iota({1, 10}))
    Nx.mean(Nx.logsumexp(logits, axes: [1]) - Nx.sum(wanted * logits, axes: [1]))
  end

  defnp adam({w1, b1, w2, b2}, {g1, h1, g2, h2}, {m1, n1, m2, n2}, {s1, t1, s2, t2}, step) do
    {w1, m1, s1} = adam_one(w1, g1, m1, s1, step)
    {b1, n1, t1} = adam_one(b1, h1, n1, t1, step)
    {w2, m2, s2} = adam_one(w2, g2, m2, s2, step)
    {b2, n2, t2} = adam_one(b2, h2, n2, t2, step)
    {{w1, b1, w2, b2}, {m1, n1, m2, n2}, {s1, t1, s2, t2}}
  end

  defnp adam_one(weight, gradient, mean, square, step) do
    mean = 0.9 * mean + 0.1 * gradient
    square = 0.999 * square + 0.001 * gradient * gradient
    size = Nx.sqrt(square / (1 - Nx.pow(0.999, step))) + 1.0e-8
    {weight - @rate * (mean / (1 - Nx.pow(0.9, step))) / size, mean, square}
  end

  defnp zeros({w1, b1, w2, b2}), do: {w1 * 0.0, b1 * 0.0, w2 * 0.0, b2 * 0.0}
  defnp images(table), do: table[[.., 0..63]] / 16
  defnp labels(table), do: table[[.., 64]]
end

defmodule Digits.Report do
  @bar 30

  def progress(epoch, epochs, loss) do
    done = div(epoch * @bar, epochs)
    bar = String.duplicate("#", done) <> String.duplicate(".", @bar - done)
    loss = :erlang.float_to_binary(Nx.to_number(loss), decimals: 4)
    IO.write("\repoch #{String.pad_leading("#{epoch}", 2)}/#{epochs} [#{bar}] loss #{loss}")
    if epoch == epochs, do: IO.puts("")
  end

  def confusion(predicted, meant) do
    pairs = Enum.zip(Nx.to_flat_list(meant), Nx.to_flat_list(predicted))
    counts = Enum.frequencies(pairs)
    IO.puts("\nrows: the digit meant; columns: the digit seen")
    IO.puts("    " <> Enum.map_join(0..9, &String.pad_leading("#{&1}", 4)))

    for row <- 0..9 do
      cells = Enum.map_join(0..9, &String.pad_leading("#{counts[{row, &1}] || "."}", 4))
      IO.puts(String.pad_leading("#{row}", 4) <> cells)
    end

    right = Enum.count(pairs, fn {a, b} -> a == b end)
    accuracy = :erlang.float_to_binary(right / length(pairs), decimals: 3)
    IO.puts("\naccuracy: #{accuracy}")
  end
end

Nx.default_backend({EMLX.Backend, device: :cpu})
Nx.Defn.default_options(compiler: EMLX)

epochs = 30
table = Nx.load_numpy!(File.read!(Path.join(__DIR__, "data/digits.npy")))

case System.argv() do
  ["--export", folder] ->
    {state, training, held_out} = Digits.setup(table)
    EMLX.export(&Digits.setup/1, [table], Path.join(folder, "digits-setup.safetensors"))
    EMLX.export(&Digits.epoch/2, [state, training], Path.join(folder, "digits-epoch.safetensors"))

    EMLX.export(
      &Digits.predict/2,
      [state, held_out],
      Path.join(folder, "digits-predict.safetensors")
    )

  [] ->
    {state, training, held_out} = Digits.setup(table)

    {state, _} =
      Enum.reduce(1..epochs, {state, nil}, fn epoch, {state, _} ->
        {state, loss} = Digits.epoch(state, training)
        Digits.Report.progress(epoch, epochs, loss)
        {state, loss}
      end)

    {predicted, meant} = Digits.predict(state, held_out)
    Digits.Report.confusion(predicted, meant)
end
