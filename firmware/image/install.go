package image

import (
	"context"
	"errors"

	"github.com/godbus/dbus/v5"
)

// manySignals is how many may wait to be read.
const manySignals = 64

// install has RAUC install an image, and waits for the end of it.
func (i *installer) install(ctx context.Context, file string, progress func(percent int, step string)) error {
	owner, err := i.listen(ctx)
	if err != nil {
		return err
	}
	signals := make(chan *dbus.Signal, manySignals)
	i.conn.Signal(signals)
	if err := i.call(ctx, raucFace+".InstallBundle", file, map[string]dbus.Variant{}).Err; err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s, ok := <-signals:
			if !ok {
				return errors.New("the connection to the bus was lost: whether it is installed is not known")
			}
			if ended, err := i.read(ctx, s, owner, progress); ended {
				return err
			}
		}
	}
}

// listen has the bus tell of the installation and its end, and of the end of the service,
// which is told by nothing else. It returns the name that the service has as a sender:
// anybody may send a signal.
func (i *installer) listen(ctx context.Context) (owner string, err error) {
	for _, about := range [][]dbus.MatchOption{
		{dbus.WithMatchSender(raucName), dbus.WithMatchInterface(raucFace), dbus.WithMatchMember("Completed")},
		{dbus.WithMatchSender(raucName), dbus.WithMatchInterface(properties), dbus.WithMatchMember("PropertiesChanged")},
		{dbus.WithMatchSender(busName), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, raucName)},
	} {
		if err := i.conn.AddMatchSignalContext(ctx, about...); err != nil {
			return "", err
		}
	}
	return owner, i.conn.BusObject().CallWithContext(ctx, busName+".GetNameOwner", 0, raucName).Store(&owner)
}

// read reads a signal, and tells whether it was the last one.
func (i *installer) read(
	ctx context.Context, s *dbus.Signal, owner string, progress func(percent int, step string),
) (ended bool, _ error) {
	switch {
	case s.Sender == busName && s.Name == busName+".NameOwnerChanged":
		if was, ok := first[string](s.Body); ok && was == raucName {
			return true, errors.New("its service ended during the installation: see its journal, and install again")
		}
	case s.Sender == owner && s.Name == raucFace+".Completed":
		if result, ok := first[int32](s.Body); !ok || result != 0 {
			return true, i.lastError(ctx)
		}
		return true, nil
	case s.Sender == owner && s.Name == properties+".PropertiesChanged":
		if progress != nil {
			tell(s.Body, progress)
		}
	}
	return false, nil
}

// first is the first value of a signal.
func first[T any](body []any) (v T, ok bool) {
	if len(body) > 0 {
		v, ok = body[0].(T)
	}
	return v, ok
}

// tell tells how far an installation is, where a change of properties says so.
func tell(body []any, progress func(percent int, step string)) {
	if len(body) < 2 {
		return
	}
	changed, _ := body[1].(map[string]dbus.Variant)
	var p struct {
		Percent int32
		Step    string
		Depth   int32
	}
	if v, ok := changed["Progress"]; ok && v.Store(&p) == nil {
		progress(int(p.Percent), p.Step)
	}
}

func (i *installer) lastError(ctx context.Context) error {
	var why string
	if err := i.property(ctx, raucFace+".LastError", &why); err != nil {
		return err
	}
	return errors.New(why)
}
