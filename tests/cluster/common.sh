# Sourced by the scripts beside it. Everything set here can be set from outside instead.
set -euo pipefail
umask 022
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail() { echo "error: $*" >&2; exit 1; }

# Written by `cargo xtask kubernetes`: CLUSTER_PROGRAMS, CLUSTER_RUNTIME and CLUSTER_PAUSE_IMAGE.
environment=${CARGO_TARGET_DIR:-$HERE/../../target}/cluster/environment
[ -n "${CLUSTER_PROGRAMS:-}" ] || [ ! -e "$environment" ] || . "$environment"
: "${CLUSTER_PROGRAMS:?run cargo xtask kubernetes first}" "${CLUSTER_RUNTIME:?}" "${CLUSTER_PAUSE_IMAGE:?}"

# One running cluster: keys, logs, files of its nodes. Of one checkout by default, so that others have theirs.
: "${CLUSTER_STATE:=/tmp/transparent-proxy-cluster-$(cksum <<<"$HERE" | cut -d' ' -f1)}"
CLUSTER_STATE=$(realpath -m "$CLUSTER_STATE")
: "${CLUSTER_NODES:=2}"                       # 1 to 9
CGROUP=cluster-$(cksum <<<"$CLUSTER_STATE" | cut -d' ' -f1)

# Nobody outside sees these, so clusters side by side may have the same.
NODES=10.89.0                                 # node N: .1N
OUTSIDE=$NODES.1
PODS=10.244                                   # pods of node N: .N.0/24
SERVICES=10.96                                # .0.0/16, DNS at .0.10
API_SERVER=https://$NODES.11:6443
DOMAIN=cluster.local

node_address() { echo "$NODES.1$1"; }
pod_network()  { echo "$PODS.$1.0/24"; }
nodes()        { seq -f node%g "$CLUSTER_NODES"; }
number()       { echo "${1#node}"; }

# Where a cluster's daemons and pods find programs: ours before what the machine has.
PROGRAM_PATH=$CLUSTER_PROGRAMS:$CLUSTER_RUNTIME:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin

START=${START:-${EPOCHREALTIME/./}}
say() {
  local elapsed=$(( (${EPOCHREALTIME/./} - START) / 100000 ))
  printf '%4d.%d s  %s\n' $(( elapsed / 10 )) $(( elapsed % 10 )) "$*" >&2
}

# until_it_works SECONDS WHAT COMMAND...: tries five times a second, and says what it waited for in vain.
until_it_works() {
  local left=$(( $1 * 5 )) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    (( left-- > 0 )) || fail "waited in vain for $what"
    sleep 0.2
  done
}

# The cluster's directory in every hierarchy of cgroups. A new one is made below that of the caller; the list is kept,
# because who takes the cluster down may be in another cgroup than who brought it up.
cgroups() {
  if [ -s "$CLUSTER_STATE/cgroups" ]; then cat "$CLUSTER_STATE/cgroups"; return; fi
  local id controllers path root
  while IFS=: read -r id controllers path; do
    case $controllers in
      '')     root=/sys/fs/cgroup/unified ;;
      name=*) root=/sys/fs/cgroup/${controllers#name=} ;;
      *)      root=/sys/fs/cgroup/$controllers ;;
    esac
    [ ! -e "$root/cgroup.procs" ] || echo "$root${path%/}/$CGROUP"
  done < /proc/self/cgroup
}

# join_cgroup PID NAME: in every hierarchy, so that `down` finds whatever the process starts.
join_cgroup() {
  local directory
  for directory in $(cgroups); do echo "$1" > "$directory/$2/cgroup.procs"; done
}

# in_namespaces_of NODE COMMAND...: replaces this shell.
in_namespaces_of() {
  local pid
  pid=$(cat "$CLUSTER_STATE/$1/pid")
  shift
  # Not `ip netns exec`: that mounts another /sys, without the cgroups.
  exec nsenter --target "$pid" --mount --net --cgroup --uts --ipc -- "$@"
}
