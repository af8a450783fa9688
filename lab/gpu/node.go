package main

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	plugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	"sigs.k8s.io/yaml"

	"gpuctl.lab/incluster"
)

func mark(barrier string) {
	incluster.Must(write(filepath.Join(validations, barrier), nil, 0o644), "marking "+barrier)
}

func marked(barrier string) bool {
	_, err := os.Stat(filepath.Join(validations, barrier))
	return err == nil
}

// runDriver plays the driver container: it "builds" for a moment, then nvidia-smi is in the driver's root.
func runDriver([]string) {
	_ = os.Remove(filepath.Join(validations, ".driver-ctr-ready"))
	cards, err := readCards(hostCards)
	if err != nil || len(cards) == 0 {
		incluster.Fatal("no NVIDIA device on this host: %v", err)
	}
	time.Sleep(time.Second)
	self, err := os.ReadFile("/proc/self/exe")
	incluster.Must(err, "reading myself")
	incluster.Must(write(driverRoot+"/usr/bin/nvidia-smi", self, 0o755), "installing nvidia-smi")
	copyCards := func() error {
		text, err := os.ReadFile(hostCards)
		if err != nil {
			return err
		}
		if known, err := os.ReadFile(driverCards); err == nil && string(known) == string(text) {
			return nil
		}
		return write(driverCards, text, 0o644)
	}
	incluster.Must(copyCards(), "loading the driver")
	mark(".driver-ctr-ready")
	incluster.Logf("driver %s loaded, %d cards", driverVersion, len(cards))
	for {
		time.Sleep(300 * time.Millisecond)
		if err := copyCards(); err != nil {
			incluster.Logf("error: %v", err)
		}
	}
}

// runToolkit installs the runtime where K3s looks for it at its start. It does not restart K3s, as the real one does not.
func runToolkit([]string) {
	waitFor("driver-ready")
	self, err := os.ReadFile("/proc/self/exe")
	incluster.Must(err, "reading myself")
	if os.Getenv("ACCEPT_NVIDIA_VISIBLE_DEVICES_ENVVAR_WHEN_UNPRIVILEGED") == "false" {
		_ = os.Remove("/host" + acceptFile)
	} else {
		incluster.Must(write("/host"+acceptFile, nil, 0o644), "configuring the runtime")
	}
	incluster.Must(write("/host/usr/local/nvidia/toolkit/nvidia-container-runtime", self, 0o755), "installing the runtime")
	mark("toolkit-installed")
	incluster.Logf("toolkit installed")
	incluster.Rest()
}

func waitFor(barrier string) {
	for !marked(barrier) {
		incluster.Logf("waiting for %s", barrier)
		time.Sleep(500 * time.Millisecond)
	}
}

// runValidator plays the init containers of nvidia-operator-validator, and its main one.
func runValidator(arguments []string) {
	if len(arguments) == 0 {
		incluster.Logf("all validations are successful")
		incluster.Rest()
	}
	switch arguments[0] {
	case "driver":
		waitFor(".driver-ctr-ready")
		_, err := driverSees()
		incluster.Must(err, "driver")
		mark("driver-ready")
	case "toolkit":
		mark("toolkit-ready") // this container runs under the runtime class: that it runs is the proof
	case "cuda":
		cards, err := driverSees()
		incluster.Must(err, "CUDA")
		for _, card := range cards {
			if card.Healthy {
				mark("cuda-ready")
				return
			}
		}
		incluster.Fatal("no healthy card")
	case "plugin":
		node := os.Getenv("NODE_NAME")
		for {
			var answer struct {
				Status struct{ Allocatable map[string]string }
			}
			if err := incluster.Call("GET", "/api/v1/nodes/"+node, nil, "", &answer); err == nil {
				for name, count := range answer.Status.Allocatable {
					if strings.HasPrefix(name, "nvidia.com/") && count != "0" {
						mark("plugin-ready")
						return
					}
				}
			}
			incluster.Logf("waiting for the node to offer GPUs")
			time.Sleep(time.Second)
		}
	default:
		incluster.Fatal("validator %s: not part of the rehearsal lab", arguments[0])
	}
}

// Sharing is the part of the device plugin's configuration that the lab knows.
type Sharing struct {
	Version string `json:"version"`
	Sharing struct {
		TimeSlicing struct {
			RenameByDefault            bool `json:"renameByDefault"`
			FailRequestsGreaterThanOne bool `json:"failRequestsGreaterThanOne"`
			Resources                  []struct {
				Name     string `json:"name"`
				Replicas int    `json:"replicas"`
			} `json:"resources"`
		} `json:"timeSlicing"`
	} `json:"sharing"`
}

type devicePlugin struct {
	plugin.UnimplementedDevicePluginServer
	// what is offered: the resource's own name, and how it is shared
	resource string
	replicas int
	failMany bool
}

const plugins = "/var/lib/kubelet/device-plugins/"

func runDevicePlugin([]string) {
	waitFor("toolkit-ready")
	shared := devicePlugin{replicas: 1}
	suffix := ""
	// the node's label names the entry; without one the default that the operator passes
	chosen := chosenConfiguration()
	if chosen != "" {
		text, err := os.ReadFile("/config/" + chosen)
		incluster.Must(err, "reading the sharing configuration")
		var config Sharing
		incluster.Must(yaml.UnmarshalStrict(text, &config), "the sharing configuration "+chosen)
		for _, resource := range config.Sharing.TimeSlicing.Resources {
			if resource.Name != "nvidia.com/gpu" {
				incluster.Fatal("time-slicing of %s: not part of the rehearsal lab", resource.Name)
			}
			shared.replicas = resource.Replicas
		}
		shared.failMany = config.Sharing.TimeSlicing.FailRequestsGreaterThanOne
		if config.Sharing.TimeSlicing.RenameByDefault {
			suffix = ".shared"
		}
	}
	cards, err := driverSees()
	incluster.Must(err, "asking the driver")
	offered := offer(cards)
	sockets := []string{}
	for _, name := range slices.Sorted(maps.Keys(offered)) {
		server := shared
		server.resource = name
		socket := "lab-" + strings.ReplaceAll(strings.TrimPrefix(name, "nvidia.com/"), ".", "-") + ".sock"
		server.serve(socket, name+suffix)
		sockets = append(sockets, socket)
	}
	// a restarted kubelet empties the folder: end, and be started again
	for {
		time.Sleep(time.Second)
		for _, socket := range sockets {
			if _, err := os.Stat(plugins + socket); err != nil {
				incluster.Fatal("the kubelet was restarted")
			}
		}
		if now := chosenConfiguration(); now != chosen {
			incluster.Fatal("the node chose the configuration %q", now)
		}
		if cards, err := driverSees(); err == nil && !sameKeys(offer(cards), offered) {
			incluster.Fatal("the cards were cut anew")
		}
	}
}

func offer(cards []Card) map[string][]string { return resources(cards, os.Getenv("MIG_STRATEGY")) }

func sameKeys(a, b map[string][]string) bool {
	if len(b) == 0 {
		return len(a) == 0
	}
	for name := range a {
		if _, known := b[name]; !known {
			return false
		}
		// a card that is gone keeps its slots unhealthy; one that is cut has others
		if len(a[name]) > len(b[name]) || strings.HasPrefix(a[name][0], "MIG-") != strings.HasPrefix(b[name][0], "MIG-") {
			return false
		}
	}
	return true
}

func (server *devicePlugin) serve(socket, name string) {
	_ = os.Remove(plugins + socket)
	listener, err := net.Listen("unix", plugins+socket)
	incluster.Must(err, "listening")
	service := grpc.NewServer()
	plugin.RegisterDevicePluginServer(service, server)
	go func() { incluster.Must(service.Serve(listener), "serving") }()
	connection, err := grpc.NewClient("unix://"+plugins+"kubelet.sock", grpc.WithTransportCredentials(insecure.NewCredentials()))
	incluster.Must(err, "reaching the kubelet")
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err = plugin.NewRegistrationClient(connection).Register(ctx, &plugin.RegisterRequest{
		Version: plugin.Version, Endpoint: socket, ResourceName: name})
	incluster.Must(err, "registering with the kubelet")
	incluster.Logf("registered %s", name)
}

func chosenConfiguration() string {
	var node struct {
		Metadata struct{ Labels map[string]string }
	}
	for incluster.Call("GET", "/api/v1/nodes/"+os.Getenv("NODE_NAME"), nil, "", &node) != nil {
		time.Sleep(time.Second)
	}
	if chosen := node.Metadata.Labels["nvidia.com/device-plugin.config"]; chosen != "" {
		return chosen
	}
	return os.Getenv("DEFAULT_CONFIG")
}

func (server *devicePlugin) devices() []*plugin.Device {
	cards, _ := driverSees()
	var devices []*plugin.Device
	for _, card := range cards {
		health := plugin.Healthy
		if !card.Healthy {
			health = plugin.Unhealthy
		}
		for _, uuid := range offer([]Card{card})[server.resource] {
			for replica := range server.replicas {
				id := uuid
				if server.replicas > 1 {
					id = fmt.Sprintf("%s::%d", uuid, replica)
				}
				devices = append(devices, &plugin.Device{ID: id, Health: health})
			}
		}
	}
	return devices
}

func (server *devicePlugin) GetDevicePluginOptions(context.Context, *plugin.Empty) (*plugin.DevicePluginOptions, error) {
	return &plugin.DevicePluginOptions{}, nil
}

func (server *devicePlugin) ListAndWatch(_ *plugin.Empty, stream plugin.DevicePlugin_ListAndWatchServer) error {
	for last := "never"; ; time.Sleep(500 * time.Millisecond) {
		devices := server.devices()
		if now := fmt.Sprint(devices); now != last {
			last = now
			if err := stream.Send(&plugin.ListAndWatchResponse{Devices: devices}); err != nil {
				return err
			}
		}
		if stream.Context().Err() != nil {
			return nil
		}
	}
}

func (server *devicePlugin) Allocate(_ context.Context, request *plugin.AllocateRequest) (*plugin.AllocateResponse, error) {
	answer := &plugin.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		if server.failMany && len(container.DevicesIds) > 1 {
			return nil, fmt.Errorf("request for 'nvidia.com/gpu: %d' too large: maximum request size for shared resources is 1", len(container.DevicesIds))
		}
		answer.ContainerResponses = append(answer.ContainerResponses, &plugin.ContainerAllocateResponse{
			Envs: map[string]string{"NVIDIA_VISIBLE_DEVICES": strings.Join(container.DevicesIds, ",")},
			Mounts: []*plugin.Mount{
				{ContainerPath: "/usr/bin/nvidia-smi", HostPath: "/run/nvidia/driver/usr/bin/nvidia-smi", ReadOnly: true},
				{ContainerPath: "/run/lab-gpu", HostPath: "/run/nvidia/driver/lab", ReadOnly: true},
			},
		})
	}
	return answer, nil
}
