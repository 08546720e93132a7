"""Manifests as Helm, kustomize, kubectl and Argo write them. Not what injection makes of them."""

HELM = """\
---
# Source: web/templates/serviceaccount.yaml
apiVersion: v1
kind: ServiceAccount
metadata:
  name: release-web
automountServiceAccountToken: true
---
# Source: web/templates/deployment.yaml
apiVersion: apps/v1
kind: Deployment
metadata:
  name: release-web
  labels:
    helm.sh/chart: web-0.1.0
    app.kubernetes.io/version: "1.16.0"
spec:
  template:
    metadata:
      annotations:
        checksum/config: 01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b
      labels:
        app.kubernetes.io/name: web

    spec:
      serviceAccountName: release-web
      containers:
        - name: web
          securityContext:
            {}
          image: "nginx:1.16.0"
          livenessProbe:
            httpGet:
              path: /
              port: http
          ports:
            - name: http
              containerPort: 80
          resources:
            {}
      volumes:
        []
---
# Source: web/templates/tests/test-connection.yaml
apiVersion: v1
kind: Pod
metadata:
  name: "release-web-test-connection"
  annotations:
    "helm.sh/hook": test
spec:
  containers:
    - name: wget
      image: busybox
      command: ['wget']
      args: ['release-web:80']
  restartPolicy: Never
"""

KUSTOMIZE = """\
apiVersion: v1
data:
  run.sh: |
    #!/bin/sh
    cat <<END
    ---
    kind: Pod
    END
kind: ConfigMap
metadata:
  name: scripts-7k2m
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: db
spec:
  serviceName: db
  template:
    spec:
      containers:
      - args:
        - |
          ---
          spec: not ours
          ...
        command:
        - sh
        - -c
        image: db@sha256:0000
        name: db
        volumeMounts:
        - mountPath: /scripts
          name: scripts
      volumes:
      - configMap:
          name: scripts-7k2m
        name: scripts
  volumeClaimTemplates:
  - metadata:
      creationTimestamp: null
      name: data
status:
  replicas: 0
"""

KUBECTL = """\
apiVersion: v1
items:
- apiVersion: v1
  kind: Pod
  metadata:
    annotations:
      kubectl.kubernetes.io/last-applied-configuration: |
        {"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"a"}]}}
    creationTimestamp: "2026-01-01T00:00:00Z"
    name: a
    uid: 0e7d6c3b-0000-4000-8000-000000000000
  spec:
    containers:
    - image: a
      name: a
    ephemeralContainers:
    - image: busybox
      name: debugger-x1
      targetContainerName: a
    tolerations:
    - effect: NoExecute
      key: node.kubernetes.io/not-ready
      operator: Exists
      tolerationSeconds: 300
  status:
    conditions: []
    phase: Running
kind: List
metadata:
  resourceVersion: ""
"""

ARGO = """\
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: web, finalizers: [resources-finalizer.argocd.argoproj.io]}
spec:
  source: {helm: {values: "replicas: 1\\nspec: {}\\n"}}
---
apiVersion: batch/v1
kind: Job
metadata:
  generateName: migrate-
  annotations: {argocd.argoproj.io/hook: PreSync, argocd.argoproj.io/sync-wave: "-1"}
spec:
  ttlSecondsAfterFinished: 60
  template: {spec: {restartPolicy: Never, containers: [{name: migrate, image: m}]}}
---
apiVersion: batch.volcano.sh/v1alpha1
kind: Job
metadata: {name: not-ours}
spec: {tasks: [{template: {spec: {containers: [{name: x}]}}}]}
---
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: not-ours}
spec: {template: {spec: {containers: [{name: x}]}}}
"""
