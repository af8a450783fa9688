package main

import (
	"context"
	"errors"
	"flag"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"gpuctl.lab/incluster"
)

const (
	driverName = "nfs.csi.k8s.io"
	// where the kubelet finds plugins, and the same folders as the pod sees them
	pluginSocket       = "/var/lib/kubelet/plugins/csi-nfsplugin/csi.sock"
	registrationSocket = "/registration/" + driverName + "-reg.sock"
)

// node is the CSI driver's part on a node. Mounting an export is binding its folder.
type node struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedNodeServer
	registration.UnimplementedRegistrationServer
	name        string
	permissions uint32
}

func runPlugin(arguments []string) {
	flags := flag.NewFlagSet("nfsplugin", flag.ExitOnError)
	name := flags.String("nodeid", "", "")
	permissions := flags.String("mount-permissions", "0", "")
	incluster.Must(flags.Parse(arguments), "arguments")
	mode, err := strconv.ParseUint(*permissions, 8, 32)
	incluster.Must(err, "mount-permissions")
	plugin := &node{name: *name, permissions: uint32(mode)}
	go serve("/csi/csi.sock", func(server *grpc.Server) {
		csi.RegisterIdentityServer(server, plugin)
		csi.RegisterNodeServer(server, plugin)
	})
	serve(registrationSocket, func(server *grpc.Server) { registration.RegisterRegistrationServer(server, plugin) })
}

func serve(socket string, register func(*grpc.Server)) {
	_ = os.Remove(socket)
	listener, err := net.Listen("unix", socket)
	incluster.Must(err, "listening")
	server := grpc.NewServer()
	register(server)
	incluster.Must(server.Serve(listener), "serving "+socket)
}

func (*node) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{Type: registration.CSIPlugin, Name: driverName, Endpoint: pluginSocket, SupportedVersions: []string{"1.0.0"}}, nil
}

func (*node) NotifyRegistrationStatus(_ context.Context, told *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if !told.PluginRegistered {
		incluster.Fatal("the kubelet refuses the driver: %s", told.Error)
	}
	incluster.Logf("registered %s", driverName)
	return &registration.RegistrationStatusResponse{}, nil
}

func (*node) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: driverName, VendorVersion: "rehearsal-lab"}, nil
}

func (*node) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	return &csi.GetPluginCapabilitiesResponse{}, nil
}

func (*node) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{}, nil
}

func (plugin *node) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: plugin.name}, nil
}

func (*node) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	return &csi.NodeGetCapabilitiesResponse{Capabilities: []*csi.NodeServiceCapability{{Type: &csi.NodeServiceCapability_Rpc{
		Rpc: &csi.NodeServiceCapability_RPC{Type: csi.NodeServiceCapability_RPC_GET_VOLUME_STATS}}}}}, nil
}

func (plugin *node) NodePublishVolume(_ context.Context, request *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	server, share, folder, mode := "", "", "", plugin.permissions
	for key, value := range request.VolumeContext {
		switch strings.ToLower(key) {
		case "server":
			server = value
		case "share":
			share = value
		case "subdir":
			folder = value
		case "mountpermissions":
			wanted, err := strconv.ParseUint(value, 8, 32)
			if err != nil {
				return nil, status.Errorf(codes.InvalidArgument, "invalid mountPermissions %s", value)
			}
			mode = uint32(wanted)
		}
	}
	if server == "" || share == "" {
		return nil, status.Error(codes.InvalidArgument, "server and share are required parameters")
	}
	source, err := mounted(server, filepath.Join(share, folder))
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	target := request.TargetPath
	if bound, err := isMount(target); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	} else if !bound {
		if err := os.MkdirAll(target, 0o750); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		if err := bind(source, target, request.Readonly); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		incluster.Logf("mounted %s:%s at %s", server, filepath.Join(share, folder), target)
	}
	if mode > 0 {
		if err := chmod(source, mode); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

func bind(source, target string, readOnly bool) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if readOnly {
		return unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	}
	return nil
}

// isMount says whether the folder exists and something is mounted there; a bind on the same file system shows only here.
func isMount(path string) (bool, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, err
	}
	for _, line := range strings.Split(string(table), "\n") {
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] == path {
			return true, nil
		}
	}
	return false, nil
}

func (*node) NodeUnpublishVolume(_ context.Context, request *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	err := unix.Unmount(request.TargetPath, 0)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return nil, status.Errorf(codes.Internal, "failed to unmount target %q: %v", request.TargetPath, err)
	}
	if err := os.Remove(request.TargetPath); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

func (*node) NodeGetVolumeStats(_ context.Context, request *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	var found unix.Statfs_t
	if err := unix.Statfs(request.VolumePath, &found); err != nil {
		return nil, status.Error(codes.NotFound, err.Error())
	}
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{{Unit: csi.VolumeUsage_BYTES,
		Available: int64(found.Bavail) * found.Bsize, Total: int64(found.Blocks) * found.Bsize, Used: int64(found.Blocks-found.Bfree) * found.Bsize}}}, nil
}
