// What went wrong, in words that name both lines of the kernel.
#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "simulator/engine/engine.h"

namespace sim {
namespace {

constexpr size_t kMostWaiters = 12;  // of a deadlock report

}  // namespace

Report::Report() = default;
Report::Report(const Report&) = default;
Report::Report(Report&&) noexcept = default;
Report& Report::operator=(Report&&) noexcept = default;
Report::~Report() = default;

std::string Report::first() const { return errors.empty() ? "" : errors[0]; }

std::string to_string(Location at) {
  const char* slash = std::strrchr(at.file, '/');
  return std::string(slash ? slash + 1 : at.file) + ":" + std::to_string(at.line);
}

uint16_t Engine::site(Location at) {
  const size_t hash = (reinterpret_cast<uintptr_t>(at.file) / 8 + static_cast<size_t>(at.line)) % 256;
  const auto is_here = [&](uint16_t i) {
    return i < sites_.size() && sites_[i].line == at.line && sites_[i].file == at.file;
  };
  if (is_here(recent_sites_[hash])) return recent_sites_[hash];
  uint16_t i = 0;
  while (i < sites_.size() && !is_here(i)) i++;
  if (i == sites_.size()) sites_.push_back(at);
  return recent_sites_[hash] = i;
}

std::string Engine::site_name(uint16_t site) const {
  return site < sites_.size() ? to_string(sites_[site]) : "?";
}

std::string Engine::shared_name(uint32_t offset) const {
  char text[32];
  const auto distance = static_cast<int64_t>(offset) - base_;
  std::snprintf(text, sizeof text, distance < 0 ? "smem-0x%llx" : "smem+0x%llx",
                static_cast<unsigned long long>(distance < 0 ? -distance : distance));
  return text;
}

std::string Engine::agent_name(Agent agent) const {
  if (agent >= threads_.size()) return agents_[agent - threads_.size()];
  const Thread& thread = threads_[agent];
  std::string name =
      "thread " + std::to_string(thread.rank) + " (warp " + std::to_string(thread.rank / 32) + ")";
  if (blocks_.size() > 1) name += " of block " + std::to_string(thread.block->rank);
  return name;
}

void Engine::fail(Location at, const char* kind, const char* format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  std::string message = std::string(kind) + ": " + to_string(at) + ": " + text;
  if (running_) {
    const uint3 place = running_->block->place;
    std::snprintf(text, sizeof text, " [block %u,%u,%u warp %d lane %d]", place.x, place.y, place.z,
                  running_->rank / 32, running_->lane);
    message += text;
  }
  report_.errors.push_back(message);
  failed_ = true;
  throw Aborted();
}

void Engine::fail(Location at, const char* what, bool global, const Violation& violation) {
  std::string place = shared_name(static_cast<uint32_t>(violation.offset));
  if (global) place = "byte " + std::to_string(violation.offset) + " of an allocation";
  const std::string line = site_name(violation.site);
  const std::string other = violation.agent == kNobody ? "another block" : agent_name(violation.agent);
  switch (violation.kind) {
    case Violation::outside:
      fail(at, "bounds", "%s at %s is outside any tensor", what, place.c_str());
    case Violation::uninitialised:
      fail(at, "uninitialised", "%s at %s reads what nobody wrote", what, place.c_str());
    case Violation::on_mbarrier:
      fail(at, "protocol", "%s at %s touches a live mbarrier", what, place.c_str());
    case Violation::after_write:
      fail(at, "race", "%s at %s is not ordered after the write at %s by %s", what, place.c_str(),
           line.c_str(), other.c_str());
    case Violation::over_read:
      fail(at, "race", "%s at %s overwrites data still being read at %s by %s", what, place.c_str(),
           line.c_str(), other.c_str());
    case Violation::unfenced:
      fail(at, "fence", "%s at %s needs fence.proxy.async%s by the thread that wrote it at %s", what,
           place.c_str(), global ? ".global" : "", line.c_str());
    case Violation::stale:
      fail(at, "protocol", "%s at %s is non-coherent, and this launch wrote the data at %s", what,
           place.c_str(), line.c_str());
    case Violation::other_unit_wrote:
      fail(at, "race", "%s at %s conflicts with the write at %s by cluster %u of the same launch", what,
           place.c_str(), line.c_str(), violation.unit - 1);
    case Violation::other_unit_read:
      fail(at, "race", "%s at %s conflicts with reads by another cluster of the same launch", what,
           place.c_str());
    case Violation::none:
      break;
  }
  throw Aborted();
}

void Engine::report_deadlock() {
  struct Waiter {
    const Thread* first;
    int lanes;
  };
  std::vector<Waiter> waiters;
  for (const Thread& thread : threads_) {
    if (thread.done) continue;
    const bool same = !waiters.empty() && [&] {
      const Thread& last = *waiters.back().first;
      return last.warp == thread.warp && last.at.line == thread.at.line &&
             last.detail[0] == thread.detail[0] && last.detail[1] == thread.detail[1] &&
             last.waits_for == thread.waits_for;
    }();
    if (same) {
      waiters.back().lanes++;
    } else {
      waiters.push_back({&thread, 1});
    }
  }
  std::string text = "deadlock: " + to_string(waiters.front().first->at) + ": nothing can go on";
  for (size_t i = 0; i < std::min(waiters.size(), kMostWaiters); i++) {
    const Thread& thread = *waiters[i].first;
    text += "\n  block " + std::to_string(thread.block->rank) + " warp " + std::to_string(thread.rank / 32) +
            ", " + std::to_string(waiters[i].lanes) + " lanes from " + std::to_string(thread.lane) + ": " +
            thread.waits_for + " at " + to_string(thread.at);
    text += describe_wait(thread);
  }
  if (waiters.size() > kMostWaiters)
    text += "\n  and " + std::to_string(waiters.size() - kMostWaiters) + " more";
  report_.errors.push_back(text);
  failed_ = true;
}

/// What a waiting thread lacks.
std::string Engine::describe_wait(const Thread& thread) const {
  char text[160] = "";
  if (!std::strcmp(thread.waits_for, "mbarrier wait")) {
    const auto found = thread.block->mbarriers.find(thread.detail[0]);
    if (found == thread.block->mbarriers.end()) return "";
    const MBarrier& barrier = *found->second;
    std::snprintf(text, sizeof text,
                  " for parity %u of mbarrier %s in phase %u, %u of %u arrivals and %lld bytes missing",
                  thread.detail[1], shared_name(barrier.offset).c_str(), barrier.phase, barrier.pending,
                  barrier.count, static_cast<long long>(barrier.bytes));
  } else if (!std::strcmp(thread.waits_for, "barrier")) {
    const NamedBarrier& barrier = thread.block->barriers[thread.detail[0]];
    std::snprintf(text, sizeof text, " %u: %d of %d threads are there", thread.detail[0], barrier.arrived,
                  barrier.expected);
  } else if (!std::strcmp(thread.waits_for, "setmaxnreg")) {
    std::snprintf(text, sizeof text, " to %u: the block has %d registers left", thread.detail[0],
                  thread.block->free_registers);
  } else if (!std::strcmp(thread.waits_for, "cluster barrier")) {
    std::snprintf(text, sizeof text, ": %d threads are missing", cluster_barrier_.missing);
  }
  return text;
}

void Engine::report_counters() {
  std::vector<std::string> names;
  for (size_t i = 0; i < sites_.size(); i++) names.push_back(site_name(static_cast<uint16_t>(i)));
  counters_.report(report_, names);
}

}  // namespace sim
