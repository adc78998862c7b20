package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func mustWriteText(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAnAccessListForNATSNamesTheDevicesAndTheGroups(t *testing.T) {
	devices := mustWriteText(t, "# by the gate\ncam-1\n\n  cam.2  \n")
	got := limber(t, "broker", "acl", "--for", "nats", "--devices", devices, "--groups", "@gate,@yard")
	if got.code != exitDone {
		t.Fatalf("exit %d, %s", got.code, got.stderr)
	}
	for _, want := range []string{`"CN=cam-1"`, `"CN=cam.2"`, `"CN=operator"`, `"CN=viewer"`,
		`"limber.v1.*.cam//2.job.>"`, `"limber.v1.*.@all.desired"`, `"limber.v1.*.@gate.desired"`, `"limber.v1.*.@yard.cmd.>"`} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("got\n%s\nwant it to say %s", got.stdout, want)
		}
	}
	own := mustWriteText(t, "user boss\ntopic readwrite limber/#\n")
	got = limber(t, "broker", "acl", "--for", "nats", "--devices", devices, "--acl", own)
	if got.code != exitDone || !strings.Contains(got.stdout, `"CN=boss"`) || strings.Contains(got.stdout, `"CN=operator"`) {
		t.Errorf("exit %d, %s%s; want the users of the list alone", got.code, got.stdout, got.stderr)
	}
}

func TestAnAccessListThatCannotBeWrittenIsRefused(t *testing.T) {
	devices := mustWriteText(t, "cam-1\n")
	for _, tt := range []struct {
		code int
		says string
		args []string
	}{
		{exitUsage, "--for is missing", []string{"--devices", devices}},
		{exitUsage, "supported is nats", []string{"--for", "emqx", "--devices", devices}},
		{exitUsage, "--devices is missing", []string{"--for", "nats"}},
		{exitUsage, `"gate" is not @`, []string{"--for", "nats", "--devices", devices, "--groups", "gate"}},
		{exitUsage, `line 2: "a b"`, []string{"--for", "nats", "--devices", mustWriteText(t, "cam-1\na b\n")}},
		{exitUsage, `line 1: "operator"`, []string{"--for", "nats", "--devices", mustWriteText(t, "operator\n")}},
		{exitFailed, "/nowhere", []string{"--for", "nats", "--devices", "/nowhere"}},
		{exitFailed, "/nowhere", []string{"--for", "nats", "--devices", devices, "--acl", "/nowhere"}},
		{exitFailed, devices + ": access list, line 1", []string{"--for", "nats", "--devices", devices, "--acl", devices}},
	} {
		limber(t, append([]string{"broker", "acl"}, tt.args...)...).complained(t, tt.code, tt.says)
	}
}
