// core/queue.h: order, errors, cancelled work, and how a queue ends.
#include "core/queue.h"

#include <future>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.h"

namespace {

/// Waits for all that was pushed; the message of the error that came with it.
std::string wait(fsv::Queue& queue) {
  std::promise<std::string> result;
  queue.fence([&](const std::exception_ptr& error) {
    try {
      if (error) std::rethrow_exception(error);
      result.set_value("");
    } catch (const std::exception& e) {
      result.set_value(e.what());
    }
  });
  return result.get_future().get();
}

void runs_in_order() {
  fsv::Queue queue;
  std::vector<int> order;
  for (int i = 0; i < 100; i++) queue.push([&, i] { order.push_back(i); });
  CHECK(wait(queue).empty());
  CHECK(order.size() == 100);
  for (int i = 0; i < static_cast<int>(order.size()); i++) CHECK(order[i] == i);
}

void keeps_the_first_error_for_the_next_fence() {
  fsv::Queue queue;
  int after = 0;
  queue.push([] { throw std::runtime_error("first"); });
  queue.push([] { throw std::runtime_error("second"); });
  queue.push([&] { after++; });
  CHECK(wait(queue) == "first");
  CHECK(wait(queue).empty());
  CHECK(after == 1);
}

void skips_cancelled_work() {
  fsv::Queue queue;
  const auto token = std::make_shared<std::atomic<bool>>(false);
  std::promise<void> gate;
  int ran = 0;
  queue.push([opened = gate.get_future().share()] { opened.wait(); });
  queue.push([&] { ran += 1; }, token);
  queue.push([&] { ran += 10; });
  token->store(true);
  gate.set_value();
  CHECK(wait(queue).empty());
  CHECK(ran == 10);
}

/// What runs when the queue is stopped is finished, memory goes back, waiting fences are answered; the rest
/// is dropped.
void ends(bool answered) {
  fsv::Queue queue;
  std::promise<void> started;
  std::atomic<bool> finished = false;
  std::string got = "nothing";
  int dropped = 0, released = 0;
  queue.push([&] {
    started.set_value();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    finished = true;
  });
  started.get_future().wait();
  queue.push([&] { dropped++; });
  queue.release([&] { released++; });
  queue.fence([&](const std::exception_ptr& error) {
    try {
      if (error) std::rethrow_exception(error);
      got = "";
    } catch (const std::exception& e) {
      got = e.what();
    }
  });
  CHECK(queue.depth() == 4);
  queue.stop(answered ? std::make_exception_ptr(std::runtime_error("over")) : nullptr);
  queue.stop();
  CHECK(finished);
  CHECK(dropped == 0);
  CHECK(released == 1);
  CHECK(got == (answered ? "over" : "nothing"));
  CHECK(queue.depth() == 0);
  queue.push([&] { dropped++; });
  CHECK(queue.depth() == 0);
}

}  // namespace

int main() {
  runs_in_order();
  keeps_the_first_error_for_the_next_fence();
  skips_cancelled_work();
  ends(true);
  ends(false);
  return check::finish();
}
