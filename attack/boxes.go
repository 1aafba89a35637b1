package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/breakwater-sec/breakwater/internal/testenv/stage"
)

// The boxes: containers that differ in their policy (policies.yaml) and in what
// they may.
const (
	guarded = "guarded" // the shipped baseline
	listed  = "listed"  // allow-lists of programs and peers
	open    = "open"    // detections alone
	admin   = "admin"   // detections alone, and rights that few containers have
	bounded = "bounded" // detections alone, and at most 300 processes
	exposed = "exposed" // detections alone, and what --privileged opens: rights, devices, /proc
)

// names are those that the villain goes by in the image: detections know
// servers, tools and miners by their programs.
func names() []string {
	return []string{
		"/usr/sbin/nginx", "/usr/sbin/php-fpm8.2", "/usr/bin/redis-server", "/usr/bin/python3.11", "/usr/bin/apt-get",
		"/usr/bin/x86_64-linux-gnu-gcc-12", "/usr/bin/nmap", "/usr/bin/tcpdump", "/usr/bin/scp", "/usr/bin/ssh", "/usr/bin/gdb",
		"/usr/bin/kubectl", "/usr/bin/useradd", "/usr/bin/shred", "/usr/sbin/debugfs", "/opt/miner/xmrig", "/opt/miner/kworker",
		"/usr/bin/curl", "/usr/bin/bash", "/usr/bin/socat", "/usr/bin/resolver",
	}
}

// setUserID are programs of the image that give whoever starts them root.
func setUserID() []string {
	return []string{"/usr/bin/sudo", "/usr/bin/pkexec", "/usr/bin/perl"}
}

const image = "villain"

func (s *suite) buildImage(ctx context.Context) error {
	path, err := s.Program(ctx, "attack", "./attack/villain")
	if err != nil {
		return err
	}
	villain, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	script := "for n in " + strings.Join(names(), " ") + "; do mkdir -p ${n%/*}; ln /usr/bin/attack $n; done; " +
		"for n in " + strings.Join(setUserID(), " ") + "; do cp /usr/bin/attack $n; chmod 4755 $n; done"
	files := "mkdir -p /etc/cron.d /etc/sudoers.d /etc/pam.d /etc/profile.d /etc/systemd/system /etc/apt/sources.list.d " +
		"/opt/secret/deep /opt/config /root/.ssh /var/log /run/secrets/kubernetes.io/serviceaccount /etc/kubernetes/pki /home/app; " +
		"for f in /etc/shadow /etc/gshadow /etc/sudoers /etc/pam.d/common-auth /etc/crontab /etc/profile /etc/ld.so.preload /root/.bashrc /root/.bash_history " +
		"/root/.ssh/id_rsa /var/log/wtmp /var/log/auth.log /run/secrets/kubernetes.io/serviceaccount/token /etc/kubernetes/pki/ca.key " +
		"/etc/apt/sources.list /opt/secret/deep/key /opt/config/app; do echo > $f; done; echo villain > /etc/hostname"
	return s.Build(ctx, image,
		"FROM bw-busybox\nCOPY attack /usr/bin/attack\nRUN "+script+"\nRUN "+files+"\nENV PATH=/usr/bin:/bin:/usr/sbin\nCMD [\"attack\", \"wait\"]\n",
		map[string][]byte{"attack": villain})
}

// makeDisk makes a node for a block device of the host, which is only read.
func (s *suite) makeDisk() error {
	devices, err := filepath.Glob("/sys/block/*/dev")
	if err != nil {
		return err
	}
	for _, file := range devices {
		size, err := os.ReadFile(filepath.Join(filepath.Dir(file), "size"))
		if err != nil || strings.TrimSpace(string(size)) == "0" {
			continue // nothing can be read from it
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var major, minor uint32
		if _, err := fmt.Sscanf(string(raw), "%d:%d", &major, &minor); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		s.disk = filepath.Join(s.Dir, "disk")
		return unix.Mknod(s.disk, unix.S_IFBLK|0o600, int(unix.Mkdev(major, minor)))
	}
	return errors.New("this host has no block device to attack")
}

// startBoxes starts the containers, and the listeners in their network.
func (s *suite) startBoxes(ctx context.Context) error {
	run := func(name string, flags ...string) error {
		args := append([]string{"run", "-d", "--name", name, "-v", s.Witness + ":/w"}, flags...)
		_, err := s.Engine(ctx, append(args, image)...)
		return err
	}
	if err := run("network", "--network=none"); err != nil {
		return err
	}
	if err := s.listen(ctx); err != nil {
		return err
	}
	for _, b := range []struct {
		name  string
		flags []string
	}{
		{guarded, []string{"--security-opt=seccomp=unconfined", "--tmpfs=/dev/shm:rw,exec", "-v", s.Docker.Socket + ":/var/run/docker.sock"}},
		{listed, nil},
		{open, []string{"--security-opt=seccomp=unconfined", "--tmpfs=/dev/shm:rw,exec"}},
		{admin, []string{"--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined", "-v", s.Cgroups + ":/cgroups",
			"--cap-add=SYS_ADMIN", "--cap-add=SYS_PTRACE", "--cap-add=SYS_MODULE", "--cap-add=SYS_BOOT", "--cap-add=DAC_READ_SEARCH", "--cap-add=SYSLOG"}},
		{bounded, []string{"--pids-limit=300"}},
		// Not by --privileged itself, which a host that lacks one right itself cannot give.
		{exposed, []string{"--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined", "--security-opt=systempaths=unconfined",
			"--device-cgroup-rule=a *:* rwm", "-v", s.disk + ":/disk", "--cap-add=SYS_ADMIN", "--cap-add=SYS_PTRACE", "--cap-add=SYS_MODULE", "--cap-add=SYS_RAWIO"}},
	} {
		if err := run(b.name, append(b.flags, "--network=container:network")...); err != nil {
			return err
		}
	}
	return nil
}

// The ports of the intruder's listeners; listed allows the first.
const (
	portAllowed = 4444
	portRefused = 9999
	portPool    = 3333
)

func peer(port int) string { return net.JoinHostPort(stage.Peer, strconv.Itoa(port)) }

// metadata is where a cloud's machines ask for their credentials.
const metadata = "169.254.169.254:80"

// kubernetes is the address of a cluster's API in its usual network.
const kubernetes = "10.96.0.1:443"

func (s *suite) listen(ctx context.Context) error {
	pid, err := s.PID(ctx, "network")
	if err != nil {
		return err
	}
	if err := stage.Addresses(ctx, pid, stage.Peer+"/32", "169.254.169.254/32", "169.254.170.2/32", "10.96.0.1/32"); err != nil {
		return err
	}
	s.listeners = map[string]*stage.Listener{}
	// Whoever gets a shell is told to leave the mark of its attack.
	const command = "echo x > /w/$ATTACK; exit\n"
	for _, address := range []string{peer(portAllowed), peer(portRefused), peer(portPool), metadata, "169.254.170.2:80", kubernetes} {
		l, err := stage.Listen(pid, address, command)
		if err != nil {
			return fmt.Errorf("listen at %s: %w", address, err)
		}
		s.Later(func() { l.Close() })
		s.listeners[address] = l
	}
	for _, address := range []string{peer(53), peer(portRefused)} {
		l, err := stage.ListenPacket(pid, address)
		if err != nil {
			return fmt.Errorf("listen at %s: %w", address, err)
		}
		s.Later(func() { l.Close() })
		s.listeners["udp "+address] = l
	}
	return nil
}
