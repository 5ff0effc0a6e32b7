// What the lanes of a warp, or the threads of a warpgroup, do together.
#include "simulator/engine/engine.h"

namespace sim {

Collective* Engine::meet(uint32_t mask, const char* name, void* argument, Location at) {
  Thread& self = *running_;
  Warp& warp = *self.warp;
  mask &= warp.lanes;
  const uint32_t me = 1u << self.lane;
  if (!(mask & me)) fail(at, "protocol", "%s: the calling lane is not in mask 0x%x", name, mask);
  Collective* mine = nullptr;
  Collective* unused = nullptr;
  for (Collective& open : warp.collectives) {
    if (!open.mask) {
      unused = &open;
    } else if (open.mask == mask && open.name == name && open.at.line == at.line && !(open.arrived & me)) {
      mine = &open;
    } else if (open.mask & mask) {
      fail(at, "protocol", "%s: the warp has diverged, other lanes wait in %s at %s", name, open.name,
           to_string(open.at).c_str());
    }
  }
  if (!mine) {
    if (!unused) fail(at, "protocol", "%s: too many parts of a warp wait in different places", name);
    mine = unused;
    mine->mask = mask;
    mine->arrived = 0;
    mine->name = name;
    mine->at = at;
  }
  mine->argument[self.lane] = argument;
  mine->arrived |= me;
  if (mine->arrived == mask) return mine;
  suspend(name, at);
  return nullptr;
}

void Engine::part(Collective& collective) {
  Warp& warp = *running_->warp;
  wake(warp, collective.mask & ~(1u << running_->lane));
  collective.mask = 0;
}

Warpgroup* Engine::meet_warpgroup(const char* name, const void* argument, Location at) {
  Thread& self = *running_;
  if (!self.warpgroup) fail(at, "protocol", "%s by a thread that is in no whole warpgroup", name);
  Warpgroup& group = *self.warpgroup;
  if (group.arrived && (group.name != name || group.at.line != at.line)) {
    fail(at, "protocol", "%s: the warpgroup has diverged, other threads wait in %s at %s", name, group.name,
         to_string(group.at).c_str());
  }
  group.name = name;
  group.at = at;
  group.argument[self.rank % 128] = argument;
  if (++group.arrived == 128) {
    group.arrived = 0;
    return &group;
  }
  suspend(name, at);
  return nullptr;
}

void Engine::part(Warpgroup& warpgroup) {
  for (int first = 0; first < 128; first += 32) {
    Warp& warp = *warpgroup.threads[first].warp;
    wake(warp, &warp == running_->warp ? ~(1u << running_->lane) : ~0u);
  }
}

}  // namespace sim
