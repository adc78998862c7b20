package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/limber-edge/limber/firmware/repo"
)

func newFirmwareKeygen() *cobra.Command {
	var role, out string
	c := &cobra.Command{
		Use:   "keygen",
		Short: "Make a key that signs for a role",
		Long: `Make a key of Ed25519 for a role of a repository: ` + strings.Join(repo.Roles(), ", ") + `.
Its file, PEM of PKCS #8 that its owner alone can read, is ROLE.pem or ROLE-NAME.pem;
beside it comes the public half, .pub, which is all that whoever runs
"firmware repo init" or "rotate" needs of it.

The keys of root and targets are needed once a year: keep them apart, and off every
network. Those of releases belong to who ships programs, those of families to who
trains networks, those of snapshot and timestamp to the machine that signs every day.`,
		Example: `  limber firmware keygen --role root --out keys/root-alice.pem
  limber firmware keygen --role timestamp --out keys/timestamp.pem`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := needed(c.CommandPath(), "role", role, "out", out); err != nil {
				return err
			}
			if err := repo.CheckRole(role); err != nil {
				return usageError{fmt.Errorf("--role: %w", err)}
			}
			k, err := repo.GenerateKey(role, out)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: key %s of %s; its public half is %s\n", k.File, k.ID[:8], k.Role,
				repo.PublicFile(k.File))
			return err
		},
	}
	c.Flags().StringVar(&role, "role", "", strings.Join(repo.Roles(), ", ")+" (required)")
	c.Flags().StringVar(&out, "out", "", "file to write, ROLE.pem or ROLE-NAME.pem (required)")
	return c
}
