#!/bin/sh
# A Kubernetes cluster on this machine, in Docker: kind, a registry on localhost:5000 that it pulls from, and a
# metrics-server for the autoscaler. Each command is shown before it runs.
#
#   make cluster                  make it; again: say that it is there
#   kind delete cluster --name NAME
#
# The makefile gives it the name of the project and the port of the nodes.
set -eu

name=$1
node_port=$2
registry=kind-registry
metrics=https://github.com/kubernetes-sigs/metrics-server/releases/download/v0.8.0/components.yaml

show() {
  printf '+ %s\n' "$*" >&2
  "$@"
}

for program in docker kind kubectl; do
  command -v "$program" >/dev/null || {
    echo "error: $program is not installed; kind is at https://kind.sigs.k8s.io, kubectl at https://kubernetes.io" >&2
    exit 1
  }
done

if [ "$(docker inspect --format '{{.State.Running}}' "$registry" 2>/dev/null || true)" != true ]; then
  show docker run --detach --restart always --publish 127.0.0.1:5000:5000 --name "$registry" registry:3
fi

if kind get clusters 2>/dev/null | grep -qx "$name"; then
  echo "ok  cluster $name is there already"
  exit 0
fi

show kind create cluster --name "$name" --config - <<CONFIG
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
  - role: control-plane
    extraPortMappings:
      - containerPort: $node_port
        hostPort: $node_port
        listenAddress: 127.0.0.1
containerdConfigPatches:
  - |-
    [plugins."io.containerd.grpc.v1.cri".registry]
      config_path = "/etc/containerd/certs.d"
CONFIG

# Inside the nodes localhost:5000 is the registry's container.
# Source: https://kind.sigs.k8s.io/docs/user/local-registry/
for node in $(kind get nodes --name "$name"); do
  show docker exec "$node" mkdir -p /etc/containerd/certs.d/localhost:5000
  printf '[host."http://%s:5000"]\n' "$registry" |
    show docker exec --interactive "$node" cp /dev/stdin /etc/containerd/certs.d/localhost:5000/hosts.toml
done
docker network inspect kind | grep -q "\"$registry\"" || show docker network connect kind "$registry"

show kubectl apply --filename "$metrics"
# kind's kubelets have certificates that nobody signed.
show kubectl --namespace kube-system patch deployment metrics-server --type json --patch \
  '[{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--kubelet-insecure-tls"}]'
show kubectl --namespace kube-system rollout status deployment metrics-server --timeout 180s
echo "ok  cluster $name; next: make image push deploy"
