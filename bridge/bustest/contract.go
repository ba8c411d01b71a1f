package bustest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/beckon-rtc/beckon/bridge"
	"github.com/beckon-rtc/beckon/topics"
)

// Run holds a bus to the contract of [bridge.Bus] and of package topics. Each test
// opens a bus of its own with the default root, on which lost connections have the
// given grace: some hundred milliseconds, since it is waited for.
func Run(t *testing.T, open func(t *testing.T) bridge.Connect, grace time.Duration) {
	for _, c := range contract {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, open(t))
		})
	}
	for _, c := range timed {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, open(t), grace)
		})
	}
}

var contract = []struct {
	name string
	test func(*testing.T, bridge.Connect)
}{
	{"JoiningGivesHelloAndSnapshotBeforeSubscribeReturns", joining},
	{"JoiningByTheInboxAloneMakesAPresence", joiningByInbox},
	{"SubscribingAgainTellsAgainAndDeliversOnce", subscribingAgain},
	{"OthersSeeWhoJoinsWithSinceAndVia", seen},
	{"PresenceIsUpdatedAndLatecomersSeeTheNewest", updated},
	{"NobodySeesOnesOwnPresence", noOwnPresence},
	{"AnEmptyPresenceLeaves", func(t *testing.T, b bridge.Connect) { leaves(t, b, "") }},
	{"AnOfflinePresenceLeaves", func(t *testing.T, b bridge.Connect) { leaves(t, b, topics.PresenceOffline) }},
	{"LeavingAndJoiningAgainWorksOnOneSession", leavesAndReturns},
	{"MessagesArriveByteForByte", byteForByte},
	{"MessagesComeWithWhatIsKnownOfThem", known},
	{"AMessageToAllReachesEveryoneElse", toAll},
	{"ADirectMessageReachesNobodyElse", direct},
	{"APairKeepsItsOrder", order},
	{"PresenceComesBeforeThePeersMessages", presenceFirst},
	{"MessagesAreNotRetained", notRetained},
	{"RoomsAreSeparate", separateRooms},
	{"ASessionIsInThirtyTwoRoomsAtOnce", manyRooms},
	{"ASessionGoesThroughAnyNumberOfRooms", roomsInTurn},
	{"AMessageToNobodyIs404AndToldOnce", nobody},
	{"WhoIsNotInTheRoomIs403", outsiders},
	{"SpeakingAsAnotherIs403", impostors},
	{"ReadingBeyondTheGrantIs403", tooCurious},
	{"AViewerSeesAndCallsOnePeer", viewer},
	{"MalformedMessagesAre400", malformed},
	{"WhatIsTooLongIs413", tooLong},
	{"AFullInboxIsToldToTheSender", fullInbox},
	{"AMessageToAConnectionThatIsEndingWaitsForTheNext", endingInbox},
	{"TheServerAnswersICE", ice},
	{"TakingOverTellsTheOldConnection", takeover},
	{"ALateCloseOfAReplacedConnectionChangesNothing", lateClose},
	{"WhoClosedOfItsOwnWillIsGoneAtOnce", left},
	{"OpenSessionsEndWithBye", byes},
	{"CloseIsIdempotentAndFinal", closed},
	{"EachSessionHasANameInTheLog", names},
	{"SessionsComeAndGoAtOnce", crowd},
	{"WhoHasNoTimeToResumeIsToldOfTheEndAtOnce", notResumable},
	{"WhatIsClosedIsNotSuspended", closedFirst},
}

var timed = []struct {
	name string
	test func(*testing.T, bridge.Connect, time.Duration)
}{
	{"ALostConnectionHasAGrace", lost},
	{"WhoComesBackInTimeMissesNothing", comesBack},
	{"ADeviceStaysListed", device},
	{"WhoResumesMissesNothingAndNobodySeesItGo", resumes},
	{"WhoDoesNotResumeInTimeIsGone", notResumed},
	{"WhoMissedTooMuchDoesNotResumeAndIsGoneWhenItsDoorCloses", missedTooMuch},
	{"ANewSessionTakesOverASuspendedOne", takesOverSuspended},
	{"WhatBecameOfAMessageWaitsForTheNextConnection", heardLater},
	{"WhatAClientDidNotGetGoesToItsNextConnection", givenBack},
	{"WhatNobodyCameToGetIsToldToItsSender", givenBackAndTold},
}

func names(t *testing.T, bus bridge.Connect) {
	one, other := connect(t, bus, PeerOf("alice")).Conn(), connect(t, bus, PeerOf("alice")).Conn()
	if one == "" || one == other {
		t.Errorf("two sessions are %q and %q", one, other)
	}
}

// crowd is for the race detector, and finds deadlocks.
func crowd(t *testing.T, bus bridge.Connect) {
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for round := range 10 {
				id := PeerOf(fmt.Sprintf("peer%d", i/2)) // two of each name, so that they take over
				b, err := bus(id, "ws", bridge.InboxFunc(func(topics.Delivery) error { return nil }))
				if err != nil {
					t.Error(err)
					return
				}
				own := topics.Address{Room: room, Kind: topics.Presence, Src: id.Name}
				_ = b.Publish(own, []byte(topics.PresenceOnline))
				_ = b.Subscribe(id.Filters(topics.DefaultRoot, room)...)
				_ = b.Publish(topics.Address{Room: room, Kind: topics.All, Src: id.Name}, []byte(`{"type":"msg"}`))
				_ = b.Publish(topics.Address{Room: room, Kind: topics.Direct, Dst: "peer0", Src: id.Name}, []byte(`{"type":"start","session":"s"}`))
				b.Close(round%2 == 0)
			}
		})
	}
	all.Wait()
	alice, bob := join(t, bus, PeerOf("alice")), join(t, bus, PeerOf("bob"))
	alice.publish(alice.to("bob"), `{"type":"msg"}`)
	bob.message("alice")
}
