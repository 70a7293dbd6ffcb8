// The metrics that are read when somebody looks, of the process and of its generations.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "gateway/generation.h"
#include "gateway/observe/metrics.h"

namespace gatepost {

// Generations, the oldest first; the last one takes new clients.
using Generations = std::vector<std::shared_ptr<const Generation>>;

// RegisterProcessMetrics has them read through `generations`, which any thread may call, and which
// returns at least one. Both outlive the scrapes.
void RegisterProcessMetrics(observe::Metrics& metrics, std::function<Generations()> generations,
                            double start_time);

}  // namespace gatepost
