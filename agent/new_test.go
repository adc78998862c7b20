package agent_test

import (
	"strings"
	"testing"

	"github.com/limber-edge/limber/agent"
	"github.com/limber-edge/limber/agent/config"
)

func TestNoAgentIsMadeOfAConfigurationThatCannotBe(t *testing.T) {
	c := config.Default()
	c.Broker.URL = nil
	_, err := agent.New(c, &agent.Deps{}, discard())
	if err == nil || !strings.HasPrefix(err.Error(), "configuration: broker") {
		t.Errorf("got %v, want a complaint about the configuration", err)
	}
}
