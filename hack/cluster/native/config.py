"""What each component of the native node is told: plain data, no effects."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hack.cluster import paths

if TYPE_CHECKING:
    from pathlib import Path

NODE_NAME = "node-1"
NODE_IP = "10.250.0.1"
API = f"https://{NODE_IP}:6443"
POD_CIDR = "10.244.0.0/24"
SERVICE_CIDR = "10.96.0.0/16"
NETWORK = "finetuning-pods"
CGROUP = "finetuning-cluster"
PAUSE_IMAGE = "localhost/pause:1"
PKI = paths.NODE / "pki"
CONFIGS = paths.NODE / "kubeconfigs"
SOCKET = paths.RUN / "containerd.sock"
CONTAINERD_STATE = paths.RUN / "containerd"
VOLUMES = paths.NODE / "volumes"
POD_LOGS = paths.NODE / "pod-logs"


@dataclass(frozen=True)
class Place:
    """Where a control plane keeps its files, and what it listens on."""

    folder: Path = paths.NODE
    address: str = NODE_IP
    api_port: int = 6443
    etcd_port: int = 12379
    peer_port: int = 12380
    audit_log: Path = paths.AUDIT_LOG

    @property
    def pki(self) -> Path:
        """Give the folder of keys and certificates."""
        return self.folder / "pki"

    @property
    def configs(self) -> Path:
        """Give the folder of kubeconfigs."""
        return self.folder / "kubeconfigs"

    @property
    def etcd(self) -> str:
        """Give the database's address."""
        return f"http://127.0.0.1:{self.etcd_port}"


MACHINE = Place()
"""Of the machine's one native node."""


def containerd_root() -> Path:
    """Keep images in the cache: the next checkout finds their layers there."""
    return paths.cache() / "containerd"


def kubeadm(version: str) -> str:
    """Tell kubeadm what to put into certificates and kubeconfigs."""
    init = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "InitConfiguration",
        "localAPIEndpoint": {"advertiseAddress": NODE_IP, "bindPort": 6443},
        "nodeRegistration": {"name": NODE_NAME, "criSocket": f"unix://{SOCKET}"},
    }
    cluster = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "kubernetesVersion": version,
        "certificatesDir": str(PKI),
        "networking": {"podSubnet": POD_CIDR, "serviceSubnet": SERVICE_CIDR},
    }
    return f"{json.dumps(init)}\n---\n{json.dumps(cluster)}\n"


def kubelet() -> dict[str, Any]:
    """Configure the kubelet for a shared development machine."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_IP,
        "healthzBindAddress": NODE_IP,
        "failCgroupV1": False,
        "failSwapOn": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(PKI / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDomain": "cluster.local",
        # Where CoreDNS listens. Other names fail there at once: nobody waits for a timeout.
        "clusterDNS": [NODE_IP],
        "resolvConf": "",
        "podLogsDir": str(POD_LOGS),
        "volumePluginDir": str(paths.NODE / "kubelet" / "volume-plugins"),
        # Nothing here looks at the chains by which the kubelet marks iptables as its own.
        "makeIPTablesUtilChains": False,
        "maxPods": 200,
        # A changed Secret or ConfigMap reaches its pods within seconds, not within a minute.
        "syncFrequency": "5s",
        # Images cannot be pulled again here, so the kubelet must never collect them.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "imagefs.available": "1%",
            "nodefs.available": "1%",
            "memory.available": "200Mi",
        },
    }


def kube_proxy() -> dict[str, Any]:
    """Configure Service addresses through nftables."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": POD_CIDR,
        "hostnameOverride": NODE_NAME,
        "bindAddress": NODE_IP,
        "healthzBindAddress": f"{NODE_IP}:10256",
        "metricsBindAddress": f"{NODE_IP}:10249",
        "clientConnection": {"kubeconfig": str(CONFIGS / "kubelet.conf")},
        "conntrack": {"maxPerCore": 0},
    }


def cni() -> dict[str, Any]:
    """Route every pod through the host: Services then need no bridge filtering."""
    return {
        "cniVersion": "0.4.0",
        "name": NETWORK,
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(paths.RUN / "addresses"),
                    "ranges": [[{"subnet": POD_CIDR}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }
        ],
    }


def containerd(cni_bin: Path, version: str) -> str:
    """Write containerd's configuration in the dialect of its major version."""
    if version.startswith("1."):
        plugin, pause, folder = "io.containerd.grpc.v1.cri", "", f'bin_dir = "{cni_bin}"'
        images = f'sandbox_image = "{PAUSE_IMAGE}"'
        dialect = 2
    else:
        plugin, folder = "io.containerd.cri.v1.runtime", f'bin_dirs = ["{cni_bin}"]'
        pause = (
            f"[plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = \"{PAUSE_IMAGE}\"\n"
        )
        images, dialect = "", 3
    return f"""version = {dialect}
root = "{containerd_root()}"
state = "{CONTAINERD_STATE}"
[grpc]
address = "{SOCKET}"
{pause}[plugins.'{plugin}']
{images}
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins.'{plugin}'.cni]
{folder}
conf_dir = "{paths.NODE / "cni"}"
"""


def corefile() -> str:
    """Tell CoreDNS to answer for the cluster's own names, by which pods of a group meet."""
    names = f"kubernetes cluster.local {{\n    kubeconfig {CONFIGS / 'super-admin.conf'}\n  }}"
    return f".:53 {{\n  bind {NODE_IP}\n  {names}\n}}\n"


def etcd(place: Place = MACHINE) -> list[str]:
    """Run the database for speed: nothing in it outlives the cluster."""
    peers = f"http://127.0.0.1:{place.peer_port}"
    return [
        f"--data-dir={place.folder / 'etcd'}",
        f"--listen-client-urls={place.etcd}",
        f"--advertise-client-urls={place.etcd}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def apiserver(place: Place = MACHINE) -> list[str]:
    """Serve on the node's own address with an audit log beside the kubeconfig."""
    certificates = {
        "client-ca-file": "ca.crt",
        "tls-cert-file": "apiserver.crt",
        "tls-private-key-file": "apiserver.key",
        "service-account-key-file": "sa.pub",
        "service-account-signing-key-file": "sa.key",
        "kubelet-client-certificate": "apiserver-kubelet-client.crt",
        "kubelet-client-key": "apiserver-kubelet-client.key",
        "requestheader-client-ca-file": "front-proxy-ca.crt",
        "proxy-client-cert-file": "front-proxy-client.crt",
        "proxy-client-key-file": "front-proxy-client.key",
    }
    return [
        f"--etcd-servers={place.etcd}",
        f"--advertise-address={place.address}",
        f"--bind-address={place.address}",
        f"--secure-port={place.api_port}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--kubelet-preferred-address-types=InternalIP",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--audit-policy-file={place.folder / 'audit-policy.yaml'}",
        f"--audit-log-path={place.audit_log}",
        "--audit-log-maxsize=4096",
        *(f"--{flag}={place.pki / file}" for flag, file in certificates.items()),
    ]


def controller_manager(place: Place = MACHINE) -> list[str]:
    """Run every default controller as the only replica."""
    return [
        *as_component("controller-manager", place),
        f"--root-ca-file={place.pki / 'ca.crt'}",
        f"--service-account-private-key-file={place.pki / 'sa.key'}",
        f"--cluster-signing-cert-file={place.pki / 'ca.crt'}",
        f"--cluster-signing-key-file={place.pki / 'ca.key'}",
        "--use-service-account-credentials",
        "--kube-api-qps=100",
        "--kube-api-burst=200",
    ]


def scheduler(place: Place = MACHINE) -> list[str]:
    """Run the scheduler as the only replica."""
    return as_component("scheduler", place)


def as_component(name: str, place: Place) -> list[str]:
    """Give the flags that the controller manager and the scheduler share."""
    config = place.configs / f"{name}.conf"
    return [
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        f"--bind-address={place.address}",
        "--leader-elect=false",
    ]


def kubelet_flags() -> list[str]:
    """Give what the kubelet takes on the command line only."""
    return [
        f"--config={paths.NODE / 'kubelet.json'}",
        f"--kubeconfig={CONFIGS / 'kubelet.conf'}",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={NODE_IP}",
        f"--root-dir={paths.NODE / 'kubelet'}",
        f"--cert-dir={paths.NODE / 'kubelet' / 'pki'}",
    ]
