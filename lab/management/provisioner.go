package main

import (
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"gpuctl.lab/incluster"
)

const volumes = "/api/v1/persistentvolumes"

type Claim struct {
	Metadata Meta
	Spec     struct {
		StorageClassName string
		VolumeName       string
		VolumeMode       string
		AccessModes      []string
		Resources        struct{ Requests struct{ Storage string } }
	}
	Status struct{ Phase string }
}

type Class struct {
	Metadata          Meta
	Provisioner       string
	Parameters        map[string]string
	ReclaimPolicy     string
	VolumeBindingMode string
	MountOptions      []string
}

type Volume struct {
	Metadata Meta
	Spec     struct {
		PersistentVolumeReclaimPolicy string
		CSI                           struct {
			Driver           string
			VolumeHandle     string
			VolumeAttributes map[string]string
		}
		HostPath struct{ Path string }
	}
	Status struct{ Phase string }
}

// provisioner makes volumes of the claims of its classes, and removes them.
type provisioner struct {
	name string
	// make is the source in the volume's spec, after the folder was made
	make func(Claim, Class, string) (object, error)
	// remove takes a released volume's folder away
	remove func(Volume, Class) error
}

func hash(text string) uint32 {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(text))
	return sum.Sum32()
}

func (p provisioner) run() {
	incluster.Logf("provisioner %s", p.name)
	incluster.Forever(time.Second, p.step)
}

func (p provisioner) step() error {
	var claims struct{ Items []Claim }
	var classes struct{ Items []Class }
	var known struct{ Items []Volume }
	for path, answer := range map[string]any{"/api/v1/persistentvolumeclaims": &claims, "/apis/storage.k8s.io/v1/storageclasses": &classes, volumes: &known} {
		if err := incluster.Call("GET", path, nil, "", answer); err != nil {
			return err
		}
	}
	byName := map[string]Class{}
	for _, class := range classes.Items {
		byName[class.Metadata.Name] = class
	}
	var failed error
	for _, claim := range claims.Items {
		class, exists := byName[claim.Spec.StorageClassName]
		of := claim.Metadata
		if !exists || class.Provisioner != p.name || claim.Spec.VolumeName != "" || claim.Status.Phase != "Pending" || of.DeletionTimestamp != "" {
			continue
		}
		if class.VolumeBindingMode == "WaitForFirstConsumer" && of.Annotations["volume.kubernetes.io/selected-node"] == "" {
			continue
		}
		if err := p.provision(claim, class); err != nil {
			event(p.name, "v1", "PersistentVolumeClaim", of, "Warning", "ProvisioningFailed",
				fmt.Sprintf("failed to provision volume with StorageClass %q: %v", class.Metadata.Name, err))
			failed = errors.Join(failed, err)
		}
	}
	for _, volume := range known.Items {
		of := volume.Metadata
		if of.Annotations["pv.kubernetes.io/provisioned-by"] != p.name || volume.Status.Phase != "Released" ||
			volume.Spec.PersistentVolumeReclaimPolicy != "Delete" || of.DeletionTimestamp != "" {
			continue
		}
		err := p.remove(volume, byName[of.Annotations["gpuctl.lab/class"]])
		if err == nil {
			err = incluster.Call("DELETE", volumes+"/"+of.Name, nil, "", nil)
		}
		if err != nil {
			event(p.name, "v1", "PersistentVolume", of, "Warning", "VolumeFailedDelete", err.Error())
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

func (p provisioner) provision(claim Claim, class Class) error {
	of := claim.Metadata
	name := "pvc-" + of.UID
	if claim.Spec.VolumeMode == "Block" {
		return errors.New("rpc error: code = InvalidArgument desc = block volume capability not supported")
	}
	source, err := p.make(claim, class, name)
	if err != nil {
		return err
	}
	reclaim := class.ReclaimPolicy
	if reclaim == "" {
		reclaim = "Delete"
	}
	spec := object{
		"capacity": object{"storage": claim.Spec.Resources.Requests.Storage}, "accessModes": claim.Spec.AccessModes,
		"persistentVolumeReclaimPolicy": reclaim, "storageClassName": class.Metadata.Name, "volumeMode": "Filesystem",
		"claimRef": object{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": of.Name, "namespace": of.Namespace, "uid": of.UID},
	}
	if len(class.MountOptions) > 0 {
		spec["mountOptions"] = class.MountOptions
	}
	for kind, value := range source {
		spec[kind] = value
	}
	err = incluster.Call("POST", volumes, object{"apiVersion": "v1", "kind": "PersistentVolume", "spec": spec,
		"metadata": object{"name": name, "annotations": object{"pv.kubernetes.io/provisioned-by": p.name, "gpuctl.lab/class": class.Metadata.Name}}}, "", nil)
	if err != nil && !incluster.Is(err, http.StatusConflict) {
		return err
	}
	incluster.Logf("provisioned %s for %s/%s", name, of.Namespace, of.Name)
	event(p.name, "v1", "PersistentVolumeClaim", of, "Normal", "ProvisioningSucceeded", "Successfully provisioned volume "+name)
	return nil
}

// runProvisioner plays the controller of csi-driver-nfs with its external provisioner.
func runProvisioner(arguments []string) {
	flags := flag.NewFlagSet("csi-provisioner", flag.ExitOnError)
	permissions := flags.String("mount-permissions", "0", "")
	policy := flags.String("default-ondelete-policy", "delete", "")
	incluster.Must(flags.Parse(arguments), "arguments")
	provisioner{
		name: driverName,
		make: func(claim Claim, class Class, name string) (object, error) {
			return makeCSI(claim, class, name, *permissions, *policy)
		},
		remove: removeCSI,
	}.run()
}

// makeCSI makes a folder of the export. The class's parameters are those of the real driver, any other is an error.
func makeCSI(claim Claim, class Class, name, permissions, policy string) (object, error) {
	server, share, folder := "", "", ""
	for key, value := range class.Parameters {
		switch strings.ToLower(key) {
		case "server":
			server = value
		case "share":
			share = value
		case "subdir":
			folder = value
		case "mountpermissions":
			permissions = value
		case "ondelete":
			policy = strings.ToLower(value)
		default:
			return nil, fmt.Errorf("rpc error: code = InvalidArgument desc = invalid parameter %q in storage class", key)
		}
	}
	if server == "" || share == "" {
		return nil, errors.New("rpc error: code = InvalidArgument desc = server and share are required parameters")
	}
	if policy != "delete" && policy != "retain" {
		return nil, fmt.Errorf("onDelete %s: not part of the rehearsal lab", policy)
	}
	mode, err := strconv.ParseUint(permissions, 8, 32)
	if err != nil {
		return nil, fmt.Errorf("rpc error: code = InvalidArgument desc = invalid mountPermissions %s in storage class", permissions)
	}
	base, err := mounted(server, share)
	if err != nil {
		return nil, fmt.Errorf("rpc error: code = Internal desc = failed to mount nfs server: %w", err)
	}
	of := claim.Metadata
	uuid := ""
	if folder == "" {
		folder = name
	} else {
		uuid = name
		folder = strings.NewReplacer("${pvc.metadata.namespace}", of.Namespace, "${pvc.metadata.name}", of.Name, "${pv.metadata.name}", name).Replace(folder)
	}
	if err := makeFolder(base, folder, uint32(mode)); err != nil {
		return nil, fmt.Errorf("rpc error: code = Internal desc = failed to make subdirectory: %w", err)
	}
	attributes := object{"csi.storage.k8s.io/pv/name": name, "csi.storage.k8s.io/pvc/name": of.Name, "csi.storage.k8s.io/pvc/namespace": of.Namespace,
		"storage.kubernetes.io/csiProvisionerIdentity": driverName}
	for key, value := range class.Parameters {
		attributes[key] = value
	}
	attributes["subdir"] = folder
	delete(attributes, "subDir")
	handle := strings.Join([]string{server, strings.Trim(share, "/"), folder, uuid, policy}, "#")
	return object{"csi": object{"driver": driverName, "volumeHandle": handle, "volumeAttributes": attributes}}, nil
}

func removeCSI(volume Volume, _ Class) error {
	parts := strings.Split(volume.Spec.CSI.VolumeHandle, "#")
	if len(parts) != 5 || parts[2] == "" {
		return fmt.Errorf("volume handle %q: not part of the rehearsal lab", volume.Spec.CSI.VolumeHandle)
	}
	if parts[4] == "retain" {
		return nil
	}
	base, err := mounted(parts[0], "/"+parts[1])
	if err != nil {
		return fmt.Errorf("rpc error: code = Internal desc = failed to mount nfs server: %w", err)
	}
	incluster.Logf("removing %s", parts[2])
	return os.RemoveAll(filepath.Join(base, filepath.Clean("/"+parts[2])))
}

// runSubdirProvisioner plays nfs-subdir-external-provisioner. Its volumes are folders of the export by host path, for
// want of the kernel's NFS client; like the in-tree NFS volumes they know no fsGroup.
func runSubdirProvisioner([]string) {
	server, share := os.Getenv("NFS_SERVER"), os.Getenv("NFS_PATH")
	_, err := mounted(server, share)
	incluster.Must(err, "mounting the export")
	provisioner{
		name: os.Getenv("PROVISIONER_NAME"),
		make: func(claim Claim, class Class, name string) (object, error) {
			base, err := mounted(server, share)
			if err != nil {
				return nil, err
			}
			for key := range class.Parameters {
				if key != "archiveOnDelete" && key != "onDelete" {
					return nil, fmt.Errorf("parameter %s: not part of the rehearsal lab", key)
				}
			}
			folder := strings.Join([]string{claim.Metadata.Namespace, claim.Metadata.Name, name}, "-")
			if err := makeFolder(base, folder, 0o777); err != nil {
				return nil, err
			}
			return object{"hostPath": object{"path": filepath.Join(base, folder), "type": "Directory"}}, nil
		},
		remove: func(volume Volume, class Class) error {
			folder := volume.Spec.HostPath.Path
			if _, err := mounted(server, share); err != nil {
				return err
			}
			if class.Parameters["onDelete"] == "retain" {
				return nil
			}
			if class.Parameters["onDelete"] == "" && class.Parameters["archiveOnDelete"] != "false" {
				return os.Rename(folder, filepath.Join(filepath.Dir(folder), "archived-"+filepath.Base(folder)))
			}
			return os.RemoveAll(folder)
		},
	}.run()
}
