// core/thread_pool.h: everything is done once and before the call returns, whoever comes late.
#include "core/thread_pool.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "check.h"

namespace {

void does_every_item_once() {
  for (const int threads : {1, 2, 3, 8}) {
    fsv::ThreadPool pool(threads);
    uint32_t random = 1;
    for (int round = 0; round < 2000; round++) {
      random = random * 1664525u + 1013904223u;
      const int64_t n = random >> 8 & 63, grain = 1 + (random >> 16 & 7);
      std::vector<int> done(static_cast<size_t>(n));  // of a call that is over, nobody may touch it any more
      std::atomic<int> widest{0};
      pool.parallel_for(n, grain, [&](int64_t begin, int64_t end, int worker) {
        if (end - begin > grain || worker < 0 || worker >= threads) widest = 1;
        for (int64_t i = begin; i < end; i++) done[static_cast<size_t>(i)]++;
      });
      bool once = true;
      for (const int count : done) once = once && count == 1;
      CHECK(once);
      CHECK(widest == 0);
    }
  }
}

void waits_for_whoever_is_inside() {
  fsv::ThreadPool pool(4);
  for (int round = 0; round < 20; round++) {
    std::atomic<int> finished{0};
    pool.parallel_for(4, 1, [&](int64_t begin, int64_t, int) {
      std::this_thread::sleep_for(std::chrono::milliseconds(begin == 3 ? 3 : 1));
      finished++;
    });
    CHECK(finished == 4);
  }
}

/// Work that one worker does alone ends when it is done, though all others have gone to sleep.
void does_not_wait_for_sleepers() {
  fsv::ThreadPool pool(64);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const auto start = std::chrono::steady_clock::now();
  constexpr int kCalls = 2000;
  std::atomic<int64_t> sum{0};
  for (int i = 0; i < kCalls; i++) pool.parallel_for(2, 1, [&](int64_t, int64_t, int) { sum++; });
  const std::chrono::duration<double, std::micro> each = (std::chrono::steady_clock::now() - start) / kCalls;
  CHECK(sum == 2 * kCalls);
  CHECK(each.count() < 1000);  // waiting for all of them takes 2700 us on two processors, this 4 us
}

}  // namespace

int main() {
  does_every_item_once();
  waits_for_whoever_is_inside();
  does_not_wait_for_sleepers();
  return check::finish();
}
