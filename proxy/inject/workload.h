// The pods and Services that a stream of Kubernetes objects describes, and where.
// Not what is done to them (inject.cc).
#pragma once

#include <expected>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/inject/layout.h"

namespace proxy::inject {

using Labels = std::map<std::string, std::string, std::less<>>;

/// A pod, or the template of pods in another object. Nodes belong to the stream.
struct Workload {
  std::string kind;            ///< "Deployment", "Pod", ...
  std::string name;            ///< of the object; of a pod without one, its generateName
  std::string namespace_name;  ///< empty: wherever it is applied
  const Node* pod = nullptr;   ///< the map with metadata and spec
  const Node* spec = nullptr;  ///< the pod's spec
  Labels labels;               ///< the pod's
  Labels annotations;          ///< the pod's

  /// "kubernetes://apis/apps/v1/namespaces/NAMESPACE/deployments/podinfo"
  [[nodiscard]] std::string owner() const;
  [[nodiscard]] std::string service_account() const;
};

struct ServicePort {
  int port = 0;
  std::string protocol;  ///< appProtocol, else the name up to its dash, as Istio reads it
};

/// A Service with a selector.
struct Service {
  std::string name;
  std::string namespace_name;
  std::string address;  ///< clusterIP, when the manifest tells it
  Labels selector;
  std::vector<ServicePort> ports;  ///< the TCP ones
};

struct Objects {
  std::vector<Workload> workloads;
  std::vector<Service> services;
};

/// All of them, those in a List too. A document that is no Kubernetes object, or a workload without
/// what Kubernetes requires, is a Problem; objects of other kinds and of other API groups are
/// passed over.
std::expected<Objects, Problem> find_objects(const Stream& stream);

/// The entry of a map that injection is to edit; null = it has none. A Problem when the entry comes
/// by a merge key (<<), which one cannot edit here.
std::expected<const Child*, Problem> find_own(const Stream& stream, const Node& map,
                                              std::string_view key);

/// What `key` has in the maps that merge keys (<<) bring into this one; null: nothing.
const Node* find_merged(const Node& map, std::string_view key);

/// The map's texts, through aliases and merge keys; other values are left out.
Labels labels_of(const Node* map);

}  // namespace proxy::inject
