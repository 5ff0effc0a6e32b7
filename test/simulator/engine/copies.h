// What all copies of the copy engine share: they report to an mbarrier, or to a group of the thread that
// issued them.
#pragma once

#include "simulator/engine/engine.h"

namespace sim {

/// Bytes have come to shared memory that an mbarrier's phase waits for.
void arrived(Engine& engine, MBarrier& barrier, uint32_t phase, uint32_t bytes, Location at);

/// One more copy in the thread's open group.
void add_to_group(Engine& engine, Thread& thread, CopyGroups& groups, const char* what);

/// A copy of a group has read its source; it is complete.
void finished_reading(Engine& engine, Thread& thread, CopyGroups& groups, uint32_t number);
void finished(Engine& engine, Thread& thread, CopyGroups& groups, uint32_t number);

void wake_copier(Engine& engine, Thread& thread);

/// An access by a copy, checked against what its issuer knows.
Touch by_copies(const Thread& issuer, bool write, Agent agent, uint32_t tick);

}  // namespace sim
