package mqtt

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// maxSecret bounds a file with a password or a token, in bytes.
const maxSecret = 4096

// FirstLine is that of a file with a password or a token. One that is too long for that,
// such as a device without an end, is an error before more of it is read.
func FirstLine(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", err
	}
	if len(b) > maxSecret {
		return "", fmt.Errorf("%s has more than %d bytes: wants a file whose first line is the secret", path, maxSecret)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return line, nil
}
