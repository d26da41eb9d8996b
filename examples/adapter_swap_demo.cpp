// adapter_swap_demo MODEL ADAPTER...: one conversation in which every answer is written with another adapter,
// swapped while the model stays loaded, and once while an answer is being written. Prints how long each step
// took.
#include <chrono>
#include <cstdio>
#include <exception>
#include <string>

#include "metal_candle/metal_candle.h"

namespace {

namespace mc = metal_candle;

template <typename F>
double microseconds(const F& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
}

std::string answer(const std::shared_ptr<mc::Model>& model, const std::string& question) {
  mc::GenerateOptions options;
  options.max_tokens = 24;
  return mc::Generator(model).generate(question, options).text;
}

void run(int argc, char** argv) {
  const std::shared_ptr<mc::Model> model = mc::Model::load(argv[1]);
  mc::AdapterRegistry registry;
  for (int i = 2; i < argc; ++i) {
    const std::string name = "adapter-" + std::to_string(i - 1);
    const double loading = microseconds([&] { registry.load_adapter(name, argv[i]); });
    std::printf("load %s: %.0f us, %llu bytes, hash %s\n", name.c_str(), loading,
                static_cast<unsigned long long>(registry.get_adapter(name)->info().bytes),
                registry.get_adapter(name)->info().hash.c_str());
  }
  std::string conversation = "Once upon a time";
  std::printf("plain:%s\n", answer(model, conversation).c_str());
  for (const mc::AdapterEntry& entry : registry.list_adapters()) {
    const auto adapter = registry.get_adapter(entry.name);
    const double first = microseconds([&] { model->apply_adapter(adapter); });  // fits it to the model
    model->remove_adapter();
    const double again = microseconds([&] { model->apply_adapter(adapter); });
    std::printf("%s, applied in %.0f us, again in %.1f us:%s\n", entry.name.c_str(), first, again,
                answer(model, conversation).c_str());
  }
  const double removal = microseconds([&] { model->remove_adapter(); });
  std::printf("plain again, removed in %.1f us:%s\n", removal, answer(model, conversation).c_str());

  // Swapped after the fifth token: what runs keeps the adapter it started with.
  mc::GenerateOptions options;
  options.max_tokens = 24;
  options.adapters = registry.resolve("adapter-1");
  std::string text;
  for (const mc::StreamToken& token : mc::Generator(model).generate_stream(conversation, options)) {
    text += token.text;
    if (token.index == 5) registry.unload_adapter("adapter-1");
  }
  std::printf("adapter-1, unloaded meanwhile:%s\n", text.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: adapter_swap_demo MODEL ADAPTER...\n");
    return 2;
  }
  try {
    run(argc, argv);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
