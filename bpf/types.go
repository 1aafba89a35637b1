package bpf

// The layouts that kernel and user space share, under their own names; C
// comments in include/wire.h say what each field means.
type (
	Config    = ProcessConfig
	Slot      = ProcessSlot
	Container = ProcessContainer
	IDKey     = ProcessIdKey
	Proc      = ProcessProc
	PathKey   = ProcessPathKey
	PathRule  = ProcessPathRule
	LeafKey   = ProcessLeafKey
	NetKey    = ProcessNetKey
	NetRules  = ProcessNetRules
	FileKey   = ProcessFileKey
	Counter   = ProcessCounter
	Repeats   = ProcessRepeats
	Stranger  = ProcessStranger

	Head           = ProcessHead
	ExecEvent      = ProcessExecEvent
	ForkEvent      = ProcessForkEvent
	ExitEvent      = ProcessExitEvent
	OpenEvent      = ProcessOpenEvent
	NetEvent       = ProcessNetEvent
	FlowEvent      = ProcessFlowEvent
	ContainerEvent = ProcessContainerEvent
	PrivilegeEvent = ProcessPrivilegeEvent
)

// Kinds of records, enum kind.
const (
	KindFork = iota + 1
	KindExec
	KindExit
	KindOpen
	KindConnect
	KindFlow
	KindSocket
	KindContainer
	KindPrivilege
	KindListen
	KindDNS
	Kinds = 16 // counters of decisions follow those of telemetry
)

// Modes of a control in a slot, enum mode.
const (
	ModeOff = iota
	ModeDetect
	ModeBlock
	ModeKill
)

// Outcomes of an act, enum outcome.
const (
	OutcomeNone = iota
	OutcomeDetected
	OutcomePrevented
	OutcomeKilled
)

// Controls, enum control: the index into Slot.Mode.
const (
	ControlExec = iota
	ControlDrift
	ControlFileless
	ControlNetwork
	ControlReverseShell
	ControlReleaseAgent
	ControlCorePattern
	ControlEngineSocket
	ControlMiner
	ControlHelper
	ControlModule
	ControlBPF
	ControlHandle
	ControlDevice
	ControlFiles
	ControlFilesAudited
	ControlForkBomb
	NoControl = 0xff
)

// IsFileRule: a rule of policy about files decides it.
func IsFileRule(control uint8) bool { return control == ControlFiles || control == ControlFilesAudited }

// Flags of a slot, enum slot_flag.
const (
	SlotExecRestrict = 1 << iota
	SlotExecRules
	SlotNetRestrict
	SlotNetRules
	SlotFileRules
)

// Verdicts of rules, enum verdict.
const (
	VerdictNone = iota
	VerdictAllow
	VerdictDeny
)

// What holds for a file, enum file_verdict: bits.
const (
	FileDenied = 1 << iota
	FileReadOnly
	FileDeniedAudited
	FileReadOnlyAudited
	FileHolds // a folder above what a rule speaks of
)

// Mechanisms, enum mechanism.
const (
	MechanismNone = iota
	MechanismExecKill
	MechanismLSM
	MechanismCgroup
	MechanismSyscallKill
	MechanismFanotify // of user space, never of a kernel record
)

// Facts about an executed file, enum exec_flag.
const (
	ExecUpper = 1 << iota
	ExecModified
	ExecFileless
	ExecStdinSocket
	ExecStdoutSocket
	ExecScript
	ExecPathTruncated
	ExecPathForeign
	ExecLoader
	ExecTerminal
	ExecGained
)

// Flags of the settings, enum config_flag.
const (
	ConfigLoader = 1 << iota // the dynamic loader is judged when it is run
	ConfigFiles              // some policy has rules about files
)

// What was done to a file, enum act.
const (
	ActOpen = iota
	ActCreate
	ActRemove
	ActRename
	ActLink
	ActTruncate
	ActMode
	ActOwner
)

// NoCapability marks a PrivilegeEvent that is about a block device.
const NoCapability = 0xff

// What a name in the map of leaves is, enum leaf_kind.
const (
	LeafFile = 1 << iota
	LeafFolder
	LeafDeep
)

// StorageSlot is where among the path rules the folders stand in which engines
// keep the files of containers.
const StorageSlot = 1024

// FilesSlot is where from each policy's rules about files stand: its slot's number
// is added.
const FilesSlot = 2048

// ContainerAdopted marks a container that was there before the programs.
const ContainerAdopted = 1
