# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.DoctorTest do
  # Not async: it changes the environment.
  use EMLX.Case, async: false

  import ExUnit.CaptureIO

  defp line(subject), do: List.keyfind(EMLX.Doctor.lines(), subject, 1)

  test "nothing is missing where the tests run" do
    text = capture_io(fn -> Mix.Tasks.Emlx.Doctor.run([]) end)
    assert text =~ ~r/^ok +libemlx: \d+\.\d+\.\d+$/m
    assert text =~ ~r/^ok +device :cpu: .+$/m
    assert text =~ ~r/^ok +Nx: \d/m
    assert text =~ ~r/^ok +a product: computed$/m
    refute text =~ "MISSING"
  end

  test "a default device that is not there is missing" do
    Application.put_env(:emlx, :default_device, :tpu)
    assert {:missing, _, ":tpu: " <> _} = line("default device")

    assert_raise Mix.Error, ~r/must be mended/, fn ->
      capture_io(fn -> Mix.Tasks.Emlx.Doctor.run([]) end)
    end
  after
    Application.delete_env(:emlx, :default_device)
  end

  test "what other builds read is named" do
    assert line("LIBMLX_VERSION") == nil
    System.put_env("LIBMLX_VERSION", "1.2")
    Application.put_env(:emlx, :warn_cross_device, true)
    assert {:note, _, "is set" <> _} = line("LIBMLX_VERSION")
    assert {:note, _, "is true" <> _} = line("config warn_cross_device")
  after
    System.delete_env("LIBMLX_VERSION")
    Application.delete_env(:emlx, :warn_cross_device)
  end
end
