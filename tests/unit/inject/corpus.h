// Manifests in the many ways in which people lay them out. Not what injection makes of them.
#pragma once

#include <array>
#include <string_view>

namespace tests::inject {

struct Manifest {
  std::string_view name;
  std::string_view text;
};

inline constexpr std::array kManifests{
    Manifest{"quoted annotations", R"(apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    metadata:
      annotations:
        prometheus.io/scrape: "true"
        prometheus.io/port: "9797"   # the app's
        prometheus.io/path: '/m'
        version: '1.10'
        note: yes
    spec:
      containers:
      - name: web
        image: web:1.10
)"},
    Manifest{"block scalars", R"(apiVersion: v1
kind: Pod
metadata:
  name: p
  annotations:
    a: |
      # no comment
      two

    b: |+
      kept


    c: >-
      folded
       text
    d: |2
        indented
spec:
  containers:
    - name: a
      command: ["sh", "-c", "echo # no comment"]
      args:
        - |
          # neither
          set -e
  initContainers:
    - name: first
      args:
        - |+
          kept

  # behind the kept lines
  volumes: # here
    # above the first
    - name: v   # v
      emptyDir: {}
)"},
    Manifest{"anchors", R"(apiVersion: apps/v1
kind: StatefulSet
metadata: &meta
  name: db
  labels: &labels {app: db}
spec:
  template:
    metadata:
      labels: *labels
    spec: &spec
      containers:
      - &main
        name: db
        ports: [&port {containerPort: 5432, name: pg}]
        livenessProbe: &probe
          tcpSocket: {port: pg}
          periodSeconds: 3
        readinessProbe: *probe
      - <<: *main
        name: other
        livenessProbe: null
        readinessProbe: ~
)"},
    Manifest{"JSON", R"({
    "apiVersion": "batch/v1",
    "kind": "CronJob",
    "metadata": {"name": "tick"},
    "spec": {
        "schedule": "* * * * *",
        "jobTemplate": {
            "spec": {
                "template": {
                    "metadata": {
                        "annotations": {
                            "prometheus.io/port": "80",
                            "a\"b": "\u00e9\\"
                        }
                    },
                    "spec": {
                        "restartPolicy": "Never",
                        "initContainers": [],
                        "volumes": [ ],
                        "containers": [
                            {
                                "name": "tick",
                                "readinessProbe": {
                                    "grpc": {
                                        "port": 50051,
                                        "service": "s"
                                    }
                                }
                            }
                        ]
                    }
                }
            }
        }
    }
})"},
    Manifest{"JSON on one line",
             R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"x","annotations":{}},)"
             R"("spec":{"volumes":[{"name":"v"}],"containers":[{"name":"x","startupProbe":)"
             R"x({"httpGet":{"port":80,"httpHeaders":[{"name":"a","value":"$(b)"}]}}}]}})x"},
    Manifest{"JSON with tabs",
             "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Pod\",\n\t\"spec\": "
             "{\n\t\t\"containers\": [\n\t\t\t{\"name\": \"x\"}\n\t\t]\n\t}\n}\n"},
    Manifest{"a List", R"(# three of them
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata:
    generateName: p-
  spec:
    containers: [{name: a}, {name: b}]
-
    apiVersion: batch/v1
    kind: Job
    metadata: {name: j, namespace: n}
    spec: {template: {spec: {containers: [{name: c, livenessProbe: {exec: {command: [x]}}}], restartPolicy: Never}}}
- kind: Service
  apiVersion: v1
  metadata: {name: a}
  spec: {selector: {app: a}, ports: [{port: 80}]}
)"},
    Manifest{"documents", R"(--- # the first is empty
---
%notadirective: x
apiVersion: v1
kind: ConfigMap
data:
  file: |
    kind: Pod
    spec: {}
...
---
apiVersion: apps/v1
kind: DaemonSet
metadata:
    name: odd
spec:
       template:
          metadata:
             annotations:
             labels:
                app: odd
          spec:
                hostPID: true

                # the containers
                containers:

                -   name: odd
                    ports:
                        - {containerPort: 80}
# the end
...
)"},
    Manifest{"nulls", R"(apiVersion: apps/v1
kind: Deployment
metadata:
  name: n
spec:
  template:
    metadata: # to be filled
    spec:
      initContainers: ~   # none
      volumes:
      containers:
        - name: n
)"},
    Manifest{
        "null annotations, spaces at line ends",
        "apiVersion: v1  \nkind: Pod\t\nmetadata:  \n  annotations:  null  # x \n  name: n  "
        "\nspec:   \n  initContainers:  \n    - name:   i  \n  containers:  \n    -   name:  c "
        "\n        livenessProbe:  {  httpGet :  {  port:  80 , path : / }  } "},
    Manifest{"flow in blocks", R"(apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: f}
spec: {
  template: { # a comment
    metadata: {annotations: { # another
      a: b, },
      labels: {app: f}},
    spec: {containers: [
      {name: f, readinessProbe: {httpGet: {port: 80}, tcpSocket: null}},
    ], volumes: [{name: v},]}
  }
}
)"},
    Manifest{"multi-line texts", R"(apiVersion: v1
kind: Pod
metadata:
  annotations: {a: "x
      y", b: 'it''s
      two'}
  name: plain text
   over two lines
spec:
  initContainers:
  - name: i
    image: over
      lines
    # a comment at the end of it
  containers:
  - name: c
    "livenessProbe":
      'httpGet': {"port": "80", path: "a'b\"c"}
  - args: ["{", "]", '#', "\"}"]
    name: d
# the last word)"},
    Manifest{
        "tabs",
        "apiVersion: v1\t\nkind: Pod \t # comment\nmetadata:\t\n  annotations:\t{a:\tb,\tc:\t'd'"
        "\t}\t\nspec:  \t\n  containers:\t# c\n  - name:\ta\t\n    livenessProbe:\t{tcpSocket:"
        "\t{port:\t1}}\n"},
    Manifest{"explicit keys", R"(? apiVersion
: v1
? kind
: Pod
? spec
:
  ? containers
  : - name: a
      ? livenessProbe # why
      : tcpSocket: {? port : 1}
    - ? lifecycle
      : preStop:
          ? httpGet
          : port: 2
      name: b
  ? initContainers
  :
)"},
    Manifest{"hooks", R"(apiVersion: v1
kind: Pod
spec:
  containers:
  - name: a
    lifecycle: # hooks
      preStop: &hook
        httpGet: # get
          path: /x   # x

          port: 1
      postStart: *hook
  - {name: b, lifecycle: {"postStart": {tcpSocket: {port: 80}, }}}
)"},
    Manifest{"keys in quotes", R"("apiVersion": "v1"
'kind': 'Pod'
"spec":
    "containers":
    - "name": "q"
"metadata":
    "annotations":
        "hoplite.io/skip-inbound-ports": "1, 2"
        'sidecar.istio.io/proxyCPU': '5'
)"},
    Manifest{"last in the file",
             "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: c\n"
             "  initContainers:\n  - name: i"},
    Manifest{"last in the file, a comment",
             "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n"
             "  - name: c\n  initContainers:\n  - name: i # end"},
    Manifest{"byte order mark",
             "\xEF\xBB\xBF"
             R"(# ünïcödé
kind: Pod
apiVersion: v1
spec:
  containers:
  - name: c
    env: [{name: ключ, value: "знач"}]
    livenessProbe: {tcpSocket: {port: 1}}
metadata: {annotations: {ключ: "знач", prometheus.io/scheme: https}}
)"},
};

}  // namespace tests::inject
