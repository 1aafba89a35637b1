package dockerfacts

import "encoding/json"

// hostConfig is the part of the engine's HostConfig that decides about safety
// (Docker Engine API 1.24 to 1.51, schema HostConfig). Keys are matched in any
// case, as the engine matches them.
type hostConfig struct {
	Binds        []string
	Mounts       []mountSpec
	Tmpfs        map[string]string
	VolumesFrom  []string
	VolumeDriver string

	Privileged   bool
	PidMode      string
	NetworkMode  string
	IpcMode      string
	UTSMode      string
	UsernsMode   string
	CgroupnsMode string
	Cgroup       string

	CapAdd         words
	Capabilities   words // API 1.40 of some builds: the exact set
	SecurityOpt    []string
	MaskedPaths    *[]string
	ReadonlyPaths  *[]string
	ReadonlyRootfs bool
	Runtime        string
	Annotations    map[string]string
	LogConfig      struct{ Type string }

	CgroupParent      string
	Devices           []device
	DeviceRequests    []deviceRequest
	DeviceCgroupRules []string

	Memory    int64
	PidsLimit *int64
	NanoCpus  int64
	CpuQuota  int64
	CpuPeriod int64
}

type mountSpec struct {
	Type          string
	Source        string
	Target        string
	ReadOnly      bool
	VolumeOptions *struct {
		DriverConfig *struct {
			Name    string
			Options map[string]string
		}
	}
}

type device struct {
	PathOnHost        string
	PathInContainer   string
	CgroupPermissions string
}

type deviceRequest struct {
	Driver       string
	Count        int
	DeviceIDs    []string
	Capabilities [][]string
}

// words is a list that older clients send as one word.
type words []string

func (w *words) UnmarshalJSON(data []byte) error {
	var list []string
	if err := json.Unmarshal(data, &list); err == nil {
		*w = list
		return nil
	}
	var one string
	if err := json.Unmarshal(data, &one); err != nil {
		return err
	}
	*w = words{one}
	return nil
}

// createBody is the body of POST /containers/create.
type createBody struct {
	Image            string
	User             string
	Labels           map[string]string
	HostConfig       *hostConfig
	NetworkingConfig *struct {
		EndpointsConfig map[string]json.RawMessage
	}
}

// inspection is the answer to GET /containers/{id}/json.
type inspection struct {
	ID         string `json:"Id"`
	Name       string
	Image      string
	Config     *inspectedConfig
	HostConfig *hostConfig
	Mounts     []inspectedMount
	State      struct{ Running bool }
}

type inspectedConfig struct {
	Image  string
	Labels map[string]string
}

type inspectedMount struct {
	Type        string
	Name        string
	Source      string
	Destination string
	Driver      string
	RW          bool
}

// volume is the answer to GET /volumes/{name}.
type volume struct {
	Name    string
	Driver  string
	Options map[string]string
}
