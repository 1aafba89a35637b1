package detect_test

import (
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/detect"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// A detection that counts fires in a replay where it would have fired then.
func TestReplayCounts(t *testing.T) {
	rules, err := detect.LoadText("scan.yaml", []byte(`
apiVersion: breakwater/v1
kind: Detection
id: scan
title: Scan
severity: low
description: Looks for what answers.
attack: [T1046]
events: [connect]
effect: alert
when: network.port < 1024
count: {of: network.port, by: [network.address], moreThan: 3, within: 10s}
sentence: "{program} in {container} tried more than {count} ports within {within}"
mustFire:
  - times: 4
    every: 1s
    vary: network.port
    event: {kind: connect, process: {pid: 9, path: /tmp/x}, network: {family: inet, transport: tcp, address: 192.0.2.1, port: 20}}
mustNotFire:
  - {kind: connect, process: {pid: 9, path: /tmp/x}, network: {family: inet, transport: tcp, address: 192.0.2.1, port: 20}}
`))
	if err != nil {
		t.Fatal(err)
	}
	fire, fired := rules.Replay(), 0
	for i := range 5 {
		fired += len(fire(event.Event{
			Key: "k", Kind: event.KindConnect, Time: at.Add(time.Duration(i) * time.Second), Container: container(),
			Process: &event.Process{PID: 9, Path: "/tmp/x"},
			Network: &event.Network{Family: "inet", Transport: "tcp", Address: "192.0.2.1", Port: 20 + i},
		}))
		if i < 3 && fired > 0 {
			t.Fatalf("it fired after %d ports", i+1)
		}
	}
	if fired == 0 {
		t.Error("it did not fire at all")
	}
}
