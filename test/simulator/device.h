// fsv::ptx for a host compiler: the wrappers of csrc/cuda/ptx, file by file, as functions of the simulator.
#pragma once

#include "simulator/device/barrier.h"
#include "simulator/device/cluster.h"
#include "simulator/device/copy.h"
#include "simulator/device/math.h"
#include "simulator/device/mbarrier.h"
#include "simulator/device/memory.h"
#include "simulator/device/mma.h"
#include "simulator/device/tma.h"
#include "simulator/device/warp.h"
#include "simulator/device/wgmma.h"
