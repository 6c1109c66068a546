// The lifecycle rules of the archive's bucket: what serverless.yml says, and the storage classes of the stage in stages.yml.
// Queries, compaction and gc read any segment at any time, so a class that has to be restored first is refused.
'use strict';

const CLASSES = ['STANDARD_IA', 'INTELLIGENT_TIERING', 'GLACIER_IR']; // readable at once, in the order in which S3 moves objects down
const ALWAYS = [
  { Id: 'mpu', Status: 'Enabled', AbortIncompleteMultipartUpload: { DaysAfterInitiation: 2 } },
  { Id: 'exports', Status: 'Enabled', Prefix: 'exports/', ExpirationInDays: 14 },
];

function refuse(sentence) {
  const error = new Error(sentence);
  error.stack = sentence; // osls prints the stack: the sentence is enough
  throw error;
}

// { STANDARD_IA: 30, GLACIER_IR: 180 } → transitions, days after an object was written
function transitions(classes) {
  const days = Object.values(classes);
  for (const [name, after] of Object.entries(classes)) {
    if (!CLASSES.includes(name)) {
      refuse(`storageClasses: ${name} is none that can be read at once; there are ${CLASSES.join(', ')}`);
    }
    if (!Number.isInteger(after) || after < (name === 'STANDARD_IA' ? 30 : 1)) {
      refuse(`storageClasses: ${name}: ${after} should be whole days, at least ${name === 'STANDARD_IA' ? 30 : 1}`);
    }
  }
  const order = Object.keys(classes).map((name) => CLASSES.indexOf(name));
  if (order.some((place, at) => at > 0 && (place < order[at - 1] || days[at] < days[at - 1] + 30))) {
    refuse(`storageClasses: objects move from ${CLASSES.join(' to ')}, and stay 30 days in a class: put them in this order`);
  }
  return Object.entries(classes).map(([name, after]) => ({ StorageClass: name, TransitionInDays: after }));
}

function rules(classes) {
  const moves = transitions(classes);
  return moves.length ? [...ALWAYS, { Id: 'archive', Status: 'Enabled', Prefix: 'archive/', Transitions: moves }] : ALWAYS;
}

module.exports = async ({ resolveVariable }) => rules(await resolveVariable('self:custom.settings.storageClasses'));
module.exports.rules = rules;
