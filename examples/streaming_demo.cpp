// streaming_demo MODEL [PROMPT]: the three ways to read tokens while the model makes them.
#include <metal_candle/metal_candle.h>

#include <coroutine>
#include <exception>
#include <future>
#include <iostream>

namespace mc = metal_candle;

// The smallest coroutine type that a plain main() can wait for. Frameworks bring their own.
struct Task {
  struct promise_type {
    std::promise<void> done;
    Task get_return_object() { return {done.get_future()}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() { done.set_value(); }
    void unhandled_exception() { done.set_exception(std::current_exception()); }
  };
  std::future<void> done;
};

Task print_async(mc::AsyncTokenStream stream) {
  while (const auto token = co_await stream.next()) std::cout << token->text << std::flush;
}

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: streaming_demo MODEL [PROMPT]\n";
    return 2;
  }
  try {
    const auto model = mc::Model::load(argv[1]);
    const mc::Prompt prompt = argc > 2 ? argv[2] : "The capital of France is";
    mc::GenerateOptions options;
    options.max_tokens = 24;
    mc::Generator generator(model);

    std::cout << "iterator: ";
    for (const mc::StreamToken& token : generator.generate_stream(prompt, options)) {
      std::cout << token.text << std::flush;
    }

    std::cout << "\ncallback: ";
    const mc::GenerationStats stats =
        generator.generate_stream(prompt, options, [](const mc::StreamToken& token) {
          std::cout << token.text << std::flush;
          return true;  // false stops
        });

    std::cout << "\nasync:    ";
    print_async(mc::generate_stream_async(model, prompt, options)).done.get();

    std::cout << "\n"
              << stats.generated_tokens << " tokens, finished by " << to_string(stats.finish_reason) << "\n";
  } catch (const std::exception& error) {
    std::cerr << "streaming_demo: " << error.what() << "\n";
    return 1;
  }
}
