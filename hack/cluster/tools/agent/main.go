// Command agent gives a development node what a real one gets from its vendor: storage for claims
// and GPUs to schedule.
//
// The provisioner serves one StorageClass from directories under a base path. The GPU loop keeps
// an extended resource on the node's status, also after a restart of the kubelet, which zeroes it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

const provisionerName = "finetuning.aim.amd.com/host-path"

type hostPath struct{ base string }

// Provision makes a directory that any user of a pod can write to: fsGroup does not reach hostPath.
func (h hostPath) Provision(_ context.Context, o controller.ProvisionOptions) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	path := filepath.Join(h.base, o.PVName)
	if err := os.MkdirAll(path, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	if err := os.Chmod(path, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	kind := v1.HostPathDirectory
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: o.PVName},
		Spec: v1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *o.StorageClass.ReclaimPolicy,
			AccessModes:                   o.PVC.Spec.AccessModes,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: o.PVC.Spec.Resources.Requests[v1.ResourceStorage]},
			PersistentVolumeSource:        v1.PersistentVolumeSource{HostPath: &v1.HostPathVolumeSource{Path: path, Type: &kind}},
		},
	}, controller.ProvisioningFinished, nil
}

// Delete removes the directory, and only one that Provision can have made.
func (h hostPath) Delete(_ context.Context, volume *v1.PersistentVolume) error {
	if volume.Spec.HostPath == nil {
		return errors.New("not a hostPath volume")
	}
	path := filepath.Clean(volume.Spec.HostPath.Path)
	if path != filepath.Join(h.base, volume.Name) {
		return fmt.Errorf("%s is not a directory of this provisioner", path)
	}
	return os.RemoveAll(path)
}

// keepGPUs writes the extended resource whenever the node does not show it.
func keepGPUs(ctx context.Context, client kubernetes.Interface, resource, count string) {
	wait.UntilWithContext(ctx, func(ctx context.Context) {
		nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			klog.ErrorS(err, "cannot list nodes")
			return
		}
		for _, node := range nodes.Items {
			if have := node.Status.Capacity[v1.ResourceName(resource)]; have.String() == count {
				continue
			}
			patch := fmt.Sprintf(`[{"op":"add","path":"/status/capacity/%s","value":"%s"}]`,
				strings.ReplaceAll(resource, "/", "~1"), count)
			_, err := client.CoreV1().Nodes().Patch(ctx, node.Name, types.JSONPatchType, []byte(patch), metav1.PatchOptions{}, "status")
			klog.InfoS("patched the node's capacity", "node", node.Name, "resource", resource, "count", count, "err", err)
		}
	}, 2*time.Second)
}

func main() {
	klog.InitFlags(nil)
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig of the cluster")
	base := flag.String("volumes", "", "directory for volumes; empty leaves storage to the cluster")
	resource := flag.String("resource", "amd.com/gpu", "extended resource to keep on every node")
	count := flag.String("count", "8", "how many of it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	syscall.Umask(0)
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		klog.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		klog.Fatal(err)
	}
	if *base == "" {
		keepGPUs(ctx, client, *resource, *count)
		return
	}
	go keepGPUs(ctx, client, *resource, *count)
	provisioner := controller.NewProvisionController(ctx, client, provisionerName, hostPath{*base},
		controller.LeaderElection(false))
	provisioner.Run(ctx)
}
