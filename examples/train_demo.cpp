// train_demo MODEL DATA OUTPUT SECONDS SYSTEM QUESTION...: trains an adapter from the lines of DATA for at
// most so long, and shows what the model answers before, with the adapter, and without it again, never
// reloading it.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "metal_candle/metal_candle.h"

namespace {

namespace mc = metal_candle;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string answer(const std::shared_ptr<mc::Model>& model, const std::string& system,
                   const std::string& text) {
  std::string prompt = text;
  if (model->info().has_chat_template)
    prompt = model->apply_chat_template(std::vector<mc::ChatMessage>{{"system", system}, {"user", text}});
  mc::GenerateOptions options;
  options.max_tokens = 24;
  const std::string out = mc::Generator(model).generate(prompt, options).text;
  return out.substr(0, out.find('\n'));
}

void run(int argc, char** argv) {
  const auto start = Clock::now();
  const std::shared_ptr<mc::Model> model = mc::Model::load(argv[1]);
  const std::string system = argv[5];
  const std::vector<std::string> questions(argv + 6, argv + argc);
  const auto ask = [&](const char* when) {
    for (const std::string& question : questions)
      std::printf("%-8s %s\n         -> %s\n", when, question.c_str(),
                  answer(model, system, question).c_str());
  };
  ask("before");

  mc::TrainingConfig config;
  config.model = argv[1];
  config.data = argv[2];
  config.output = argv[3];
  config.mask_prompt = true;
  config.epochs = 1;
  config.batch_size = 8;
  config.learning_rate = 2e-3;
  mc::Trainer trainer(config);
  const double limit = std::atof(argv[4]);
  const mc::TrainingResult result = trainer.train({.on_step = [&](const mc::TrainingStep& step) {
    if (step.step % 10 == 0 || step.step == step.steps)
      std::printf("step %llu of %llu: loss %.4f, %.0f tokens/s\n", static_cast<unsigned long long>(step.step),
                  static_cast<unsigned long long>(step.steps), step.loss,
                  static_cast<double>(step.tokens) / step.seconds);
    std::fflush(stdout);
    return seconds_since(start) < limit;
  }});
  std::printf("trained %llu parameters in %llu steps, %.0f s\n",
              static_cast<unsigned long long>(result.trainable_parameters),
              static_cast<unsigned long long>(result.steps), seconds_since(start));

  const auto swap = Clock::now();
  model->apply_adapter(mc::Adapter::load(config.output));
  std::printf("adapter loaded and applied in %.1f ms\n", 1000 * seconds_since(swap));
  ask("after");
  model->remove_adapter();
  ask("removed");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 7) {
    std::fprintf(stderr, "usage: train_demo MODEL DATA OUTPUT SECONDS SYSTEM QUESTION...\n");
    return 2;
  }
  try {
    run(argc, argv);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "train_demo: %s\n", error.what());
    return 1;
  }
}
