package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/family"
	"github.com/limber-edge/limber/firmware/repo"
)

// releaseArgs are the flags that say what a release is.
type releaseArgs struct {
	version, arch, family string
	boards, from          []string
	oneWay                bool
}

func newRepoAdd() *cobra.Command {
	var a repoArgs
	var r releaseArgs
	c := &cobra.Command{
		Use:   "add [FOLDER]",
		Short: "Add a release, or a family",
		Long: `Add a release: all files of a folder, with the program "limber" among them. What it has
in common with other releases is kept once, and no device fetches it again. Or add, with
--family, a family: its digest is signed, so that devices with updates.root_file take it.

--board has a pattern such as "*Orin*" for the board's model, --from the oldest and the
newest version that the release may take the place of, and --one-way says that the
version before cannot read the state that this one leaves.`,
		Example: `  limber firmware repo add --repo ./repo --keys ./keys --version 1.4.0 --arch arm64 ./release
  limber firmware repo add --repo ./repo --keys ./keys --version 1.4.0 --arch arm64 --board '*Orin*' \
    --from 1.2.0,1.4.0 ./release
  limber firmware repo add --repo ./repo --keys ./keys --family mine.family`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return exactly(1, "the folder of a release")(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error { return r.add(c, &a, args) },
	}
	a.flags(c, true)
	r.flags(c)
	f := c.Flags()
	f.StringVar(&r.family, "family", "", "the family's folder, or file of \"family pack\", instead of a release")
	f.StringArrayVar(&r.boards, "board", nil, "pattern of the boards that it is for; may be given again (default: all)")
	f.StringSliceVar(&r.from, "from", nil, "OLDEST,NEWEST version that it may take the place of (default: any)")
	f.BoolVar(&r.oneWay, "one-way", false, "the version before cannot read the state that this one leaves")
	return c
}

func (r *releaseArgs) flags(c *cobra.Command) {
	c.Flags().StringVar(&r.version, "version", "", "version of the release, such as 1.4.0")
	c.Flags().StringVar(&r.arch, "arch", "", "its architecture, amd64 or arm64")
}

// add adds the release in a folder, or the family.
func (r *releaseArgs) add(c *cobra.Command, a *repoArgs, args []string) error {
	switch {
	case r.family == "" && len(args) == 0:
		return usagef("%s wants the folder of a release, or --family; see `%s --help`", c.CommandPath(), c.CommandPath())
	case r.family != "" && (len(args) > 0 || r.version != "" || r.arch != ""):
		return usagef("%s wants the folder of a release or --family, and not both", c.CommandPath())
	case r.family != "":
		return a.edit(c, func(to *repo.Repository) error { return r.addFamily(c.OutOrStdout(), to) })
	}
	m, err := r.manifest(c)
	if err != nil {
		return err
	}
	return a.edit(c, func(to *repo.Repository) error {
		if err := to.Pack(args[0], m); err != nil {
			return err
		}
		if err := to.AddRelease(m); err != nil {
			return err
		}
		if !m.HasRuntime() {
			fmt.Fprintf(c.ErrOrStderr(), "limber: release %s has no libonnxruntime.so.* beside limber: devices that have "+
				"ONNX Runtime from the package alone refuse it\n", m.Version)
		}
		_, err := fmt.Fprintf(c.OutOrStdout(), "release %s for %s: manifest sha256:%s, files: %d\n", m.Version, m.Arch,
			m.Digest(), len(m.Files))
		return err
	})
}

// manifest is the release without its files.
func (r *releaseArgs) manifest(c *cobra.Command) (*repo.Manifest, error) {
	if err := needed(c.CommandPath(), "version", r.version, "arch", r.arch); err != nil {
		return nil, err
	}
	if r.arch != "amd64" && r.arch != "arm64" {
		return nil, usagef("--arch: %q is neither amd64 nor arm64", r.arch)
	}
	m := &repo.Manifest{Version: r.version, Arch: r.arch, Boards: r.boards, State: repo.TwoWay}
	if r.oneWay {
		m.State = repo.OneWay
	}
	switch len(r.from) {
	case 0:
	case 2:
		m.From = &[2]string{r.from[0], r.from[1]}
	default:
		return nil, usagef("--from: %s is not OLDEST,NEWEST", strings.Join(r.from, ","))
	}
	return m, nil
}

func (r *releaseArgs) addFamily(w io.Writer, to *repo.Repository) error {
	f, err := openFamily(r.family)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := to.AddFamily(&f.Family); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "family %s: sha256:%s\n", f.Name, f.Digest())
	return err
}

func newRepoWithdraw() *cobra.Command {
	var a repoArgs
	var r releaseArgs
	c := &cobra.Command{
		Use:   "withdraw",
		Short: "Have devices not take a release, or a family, any more",
		Long: `Have devices not take a release, or a family, any more. Those that run it go on with
it, and its files stay where they are.`,
		Example: `  limber firmware repo withdraw --repo ./repo --keys ./keys --version 1.4.0
  limber firmware repo withdraw --repo ./repo --keys ./keys \
    --family c1a1fbd1ad5e9b7b9b3e1e0f4c6b6a0cd1a1fbd1ad5e9b7b9b3e1e0f4c6b6a0c`,
		RunE: func(c *cobra.Command, _ []string) error {
			if (r.version == "") == (r.family == "") {
				return usagef("%s wants either --version or --family; see `%s --help`", c.CommandPath(), c.CommandPath())
			}
			return a.edit(c, func(from *repo.Repository) error {
				if r.version != "" {
					return from.WithdrawRelease(r.version, r.arch)
				}
				return from.WithdrawFamily(family.Digest(strings.TrimPrefix(r.family, "sha256:")))
			})
		},
	}
	a.flags(c, true)
	r.flags(c)
	c.Flags().StringVar(&r.family, "family", "", "SHA-256 of the family, as \"repo status\" shows it")
	return c
}
